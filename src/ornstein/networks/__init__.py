"""Networks. All denoisers share one call, net(x (B, *event), noise (B,), cond (B, C) | None) -> like x."""
