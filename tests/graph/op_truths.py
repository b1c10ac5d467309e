"""What LiteRT's ops compute, in numpy on real numbers."""

from __future__ import annotations

import math

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x):
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def relu(x):
    return np.maximum(x, 0)


def l2_norm(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def conv(x, w, b=None, *, dilation=1, groups=1):
    """VALID, stride 1, NHWC; w is [out, h, w, in / groups]."""
    n, h, width, _ = x.shape
    o, kh, kw, ci = w.shape
    oh, ow = h - dilation * (kh - 1), width - dilation * (kw - 1)
    y = np.zeros((n, oh, ow, o))
    per = o // groups
    for g in range(groups):
        for i in range(kh):
            for j in range(kw):
                part = x[:, i * dilation : i * dilation + oh, j * dilation : j * dilation + ow]
                part = part[..., g * ci : (g + 1) * ci]
                y[..., g * per : (g + 1) * per] += part @ w[g * per : (g + 1) * per, i, j].T
    return y if b is None else y + b


def depthwise(x, w, b=None):
    n, h, width, c = x.shape
    _, kh, kw, co = w.shape
    y = np.zeros((n, h - kh + 1, width - kw + 1, co))
    wide = np.repeat(x, co // c, axis=-1)
    for i in range(kh):
        for j in range(kw):
            y += wide[:, i : i + y.shape[1], j : j + y.shape[2]] * w[0, i, j]
    return y if b is None else y + b


def transpose_conv(shape, w, x, b=None):
    """VALID, stride 2."""
    y = np.zeros(tuple(shape))
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            y[:, i : i + 2 * x.shape[1] : 2, j : j + 2 * x.shape[2] : 2] += x @ w[:, i, j].T
    return y if b is None else y + b


def pool(x, f):
    n, h, w, c = x.shape
    return f(x.reshape(n, h // 2, 2, w // 2, 2, c), axis=(2, 4))


def space_to_depth(x):
    n, h, w, c = x.shape
    y = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h // 2, w // 2, 4 * c)


def depth_to_space(x):
    n, h, w, c = x.shape
    y = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, 2 * h, 2 * w, c // 4)


def space_to_batch(x, *_):
    n, h, w, c = x.shape
    y = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 4, 0, 1, 3, 5)
    return y.reshape(4 * n, h // 2, w // 2, c)


def batch_to_space(x, *_):
    n, h, w, c = x.shape
    y = x.reshape(2, 2, n // 4, h, w, c).transpose(2, 3, 0, 4, 1, 5)
    return y.reshape(n // 4, 2 * h, 2 * w, c)


def nearest(x, size):
    return x.repeat(2, 1).repeat(2, 2)


def bilinear(x, size):
    """Half-pixel centers, a factor of 2."""

    def double(v, axis):
        p = np.arange(2 * v.shape[axis]) / 2 - 0.25
        p = np.clip(p, 0, v.shape[axis] - 1)
        a = np.floor(p).astype(int)
        b = np.minimum(a + 1, v.shape[axis] - 1)
        f = (p - a).reshape([-1 if k == axis else 1 for k in range(v.ndim)])
        return v.take(a, axis) * (1 - f) + v.take(b, axis) * f

    return double(double(x, 1), 2)


def topk(x, k):
    order = np.argsort(-x, axis=-1, kind="stable")[..., : int(k)]
    return np.take_along_axis(x, order, -1), order.astype(np.int32)


def segment_sum(x, ids):
    return np.stack([x[ids == i].sum(0) for i in range(ids.max() + 1)])


def unsorted(f):
    return lambda x, ids, n: np.stack([f(x[ids == i], 0) for i in range(int(n))])


def scatter(ids, updates, shape):
    y = np.zeros(tuple(shape))
    np.add.at(y, tuple(ids.T), updates)
    return y


def update_slice(x, u, start):
    y = x.copy()
    y[start[0] : start[0] + u.shape[0], start[1] : start[1] + u.shape[1]] = u
    return y


def reverse_sequence(x, lengths):
    y = x.copy()
    for i, n in enumerate(lengths):
        y[i, :n] = x[i, :n][::-1]
    return y
