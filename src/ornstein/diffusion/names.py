"""What there is to choose from, by name, in a sentence each: told without torch, whose import takes seconds."""

PROCESSES = {
    "cosine": "variance preserving, cosine schedule; with levels, improved DDPM's table",
    "linear": "variance preserving, linear beta from 0.1 to 20; with levels, DDPM's table",
    "vp": "variance preserving, linear beta from 0.1 to 10, as in Diffusion-QL",
    "subvp": "sub-VP: alpha of linear with less noise, sigma = 1 - alpha^2",
    "ve": "variance exploding, sigma geometric from 0.01 to 50",
    "flow": "straight lines from data to noise (flow matching, rectified flow)",
    "karras": "variance exploding with log-normal training noise (EDM)",
}

TARGETS = {
    "eps": "the noise",
    "x0": "the clean sample",
    "v": "alpha eps - sigma x0, safe at both ends of time",
    "score": "the score -eps / sigma of the noised data",
    "flow": "the velocity eps - x0 of the straight line",
    "edm": "EDM's preconditioned mixture of clean sample and noise",
    "meanflow": "the mean velocity over a span of time, by its derivative (MeanFlow); one call samples",
    "shortcut": "the mean velocity over a span of time, by halves of it (shortcut models); one call samples",
}

SOLVERS = {
    "ddpm": "ancestral sampling, first order, stochastic",
    "ddpm_large": "ancestral sampling with the larger variance, first order, stochastic",
    "ddim": "first order, deterministic unless eta is above 0; Euler's rule for flow matching",
    "euler": "Euler's rule in t on the probability-flow ODE, first order, for many steps",
    "euler_maruyama": "Euler's rule in t on the reverse SDE, stochastic, for many steps",
    "heun": "second order, two network calls a step; deterministic unless there is churn",
    "dpmpp_2s": "DPM-Solver++(2S), second order, deterministic",
    "dpmpp": "DPM-Solver++(2M), second order, deterministic",
    "dpmpp_3m": "DPM-Solver++(3M), third order, deterministic",
    "sde_dpmpp": "SDE-DPM-Solver++(2M), second order, stochastic",
    "unipc": "UniPC-2, third order for small steps, deterministic",
    "consistency": "consistency sampling: to data and back to the next level, stochastic",
}

GRIDS = {
    "trailing": "equal steps of t, the last of which reaches clean data",
    "uniform": "equal steps of t between the ends of the usable range, then onto clean data",
    "quadratic": "equal steps of the square root of t",
    "logsnr": "equal steps of the log signal-to-noise ratio",
    "karras": "equal steps of (sigma/alpha)^(1/7), EDM's",
}
