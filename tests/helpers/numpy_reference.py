"""Layers in plain NumPy, on the weights of a module."""

import numpy as np


def weights_of(module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in module.named_parameters()}


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def layer_norm(p, name, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]


def feed_forward(p, name, x):
    return linear(p, f"{name}.2", np.maximum(linear(p, f"{name}.0", x), 0))


def attend(q, k, v, valid):
    """One head of one window: q (T, E), k and v (S, E), valid (S,)."""
    scores = q @ k[valid].T / np.sqrt(q.shape[1])
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True) @ v[valid]


def heads_of(x, n_heads):
    return np.split(x, n_heads, axis=1)
