"""How good agents are, and how sure that is: it knows scores, and no learner."""
