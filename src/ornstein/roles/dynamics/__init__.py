"""What happens next, and what made it happen?"""
