"""Networks. All denoisers share one call, net(x (B, *event), noise (B,), cond) -> like x, where
`cond` is (B, C), or a pair of it and of which rows of it are given, (B,) bool, or None. One with
`noise_per_row` (DiT1D) takes noise (B, H), too."""
