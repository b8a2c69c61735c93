"""A second reader, written from docs/codec.md: one value at a time, in Python's own integers."""

import struct
from collections import defaultdict

import numpy as np
from constriction import stream

from keras_ae.codec.tables import SCALES

OWN = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
SIDES = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
SCALE_START = [2500, 2400, 650, 1000, 1100, 1100, 2350, -400, 2040, -850, 2330, 1100, 1100, -900]


def read_tile(data: bytes) -> np.ndarray:
    """The values of a file of one tile, int64 [h, w, c]."""
    channels, width, height, stride = struct.unpack_from("<H12xIIH", data, 6)
    shape = -(-height // stride), -(-width // stride), channels
    words = np.frombuffer(data, "<u4", offset=32 + 2 * channels).astype(np.uint32)
    return Tile(stream.queue.RangeDecoder(words), shape).read()


class Weights:
    def __init__(self, start, ridge, counts, sweeps):
        self.counts, self.sweeps, size = counts, sweeps, len(start)
        self.w = [list(start) for _ in counts]
        self.g = [[ridge * (a == b) for b in range(size)] for a in range(size)]
        self.t = [ridge * value for value in start]

    def predict(self, features, which=0):
        count = self.counts[which]
        return sum(w * f for w, f in zip(self.w[which][:count], features[:count]))

    def add(self, features, target):
        for a, f in enumerate(features):
            self.t[a] += f * target << 14
            self.g[a] = [g + f * other for g, other in zip(self.g[a], features)]

    def solve(self):
        for count, w in zip(self.counts, self.w):
            for _ in range(self.sweeps):
                for a in range(count):
                    rest = self.t[a] - sum(self.g[a][b] * w[b] for b in range(count))
                    w[a] += rest // self.g[a][a]
                w[:] = [min(max(value, -65536), 65536) for value in w]


class Tile:
    def __init__(self, decoder, shape):
        self.decoder, self.shape = decoder, shape
        self.x, self.log = defaultdict(int), defaultdict(int)
        self.errors = defaultdict(int), defaultdict(int)
        self.sources = min(4, shape[2] - 1)
        start = [3000] + [0] * (4 + 5 * self.sources)
        self.value = [Weights(start, 160, (len(start), 5), 2) for _ in range(shape[2])]
        self.scale = [Weights(SCALE_START, 65536, (14,), 1) for _ in range(shape[2])]

    def read(self):
        h, w, c = self.shape
        values = np.zeros(self.shape, np.int64)
        every = [(k, i, j) for k in range(c) for i in range(h) for j in range(w)]
        seen, pending = 0, []
        for number in range(w + 2 * h + 3 * c):
            front = [(k, i, j) for k, i, j in every if j + 2 * i + 3 * k == number]
            states = [self.predict(*at) for at in front]
            for (k, i, j), state, value in zip(front, states, self.decode(states)):
                values[i, j, k] = value
                pending.append((k, state, *self.learn(k, i, j, state, value)))
            seen += len(front)
            if front and 12 * len(pending) >= seen:
                for k, (features, scales, *_), clipped, log in pending:
                    self.value[k].add(features, clipped)
                    self.scale[k].add(scales, log)
                for weights in self.value + self.scale:
                    weights.solve()
                pending = []
        return values

    def predict(self, k, i, j):
        x = self.x
        west, north, north_west, north_east = (x[k, i + di, j + dj] for di, dj in OWN[:4])
        features = [west + north, west - north, north_east - north]
        features += [2 * north_west - west - north, 4]
        groups = []
        for m in range(self.sources):
            y = [x[m, i + di, j + dj] if m < k else 0 for di, dj in SIDES]
            here, left, right, above, below = y
            groups.append((here, right - left, below - above))
            groups[-1] += (right + left - 2 * here, below + above - 2 * here)
        features += [group[n] for n in range(5) for group in groups]
        p = [self.value[k].predict(features, n) + 512 >> 10 for n in (0, 1)]
        e = [
            205 + sum(f * errors[k, i + a, j + b] for f, (a, b) in zip((4, 4, 2, 2, 1, 1), OWN))
            for errors in self.errors
        ]
        scales = [self.log[k, i + di, j + dj] for di, dj in OWN]
        for di, dj in SIDES:
            total = sum(self.log[n, i + di, j + dj] for n in range(k))
            scales.append(total * (65536 // max(k, 1)) >> 16)
        scales += [self.log[k - 1, i, j], self.log[k - 2, i, j], 32]
        log = (self.scale[k].predict(scales) >> 14) + 36 >> 1
        prediction = (p[0] * e[1] + p[1] * e[0]) // (e[0] + e[1])
        return features, scales, p, prediction, min(max(log, 0), 115)

    def learn(self, k, i, j, state, value):
        _, _, p, prediction, _ = state
        v = min(abs(16 * value - prediction), 65535) + 5
        n = v.bit_length() - 1
        log = 16 * (n - 4) - 16 + (16 * v >> n)
        clipped = min(max(value, -4096), 4096)
        self.log[k, i, j], self.x[k, i, j] = log, clipped
        for errors, one in zip(self.errors, p):
            errors[k, i, j] = min(abs(16 * value - one), 4095) ** 2
        return clipped, log

    def decode(self, states):
        coded = []
        for *_, p, k in states:
            base = p + 8 >> 4
            q, z = p - 16 * base, shift(SCALES[k])
            symbol = self.symbol(table(SCALES[k] >> z, q + 8 >> z if z else q))
            coded.append([base, z, symbol, z, 1, 0])
        for one in coded:
            if one[2] in (0, 50):
                digits = self.symbol([2 ** (34 - m) for m in range(35)])
                one[3] += digits
                one[4] <<= digits
        while any(left for *_, left, _, _ in coded):
            for one in coded:
                if count := min(one[3], 4):
                    bits = self.symbol([1] * 2**count + [0] * (16 - 2**count))
                    one[3] -= count
                    one[5] = one[5] << count | bits
        return [value_of(*one) for one in coded]

    def symbol(self, frequencies):
        family = stream.model.Categorical(perfect=False)
        return int(self.decoder.decode(family, np.array([frequencies], np.float64))[0])


def value_of(base, z, symbol, _, top, bits):
    residual = symbol - 25
    if symbol in (0, 50):
        residual = (1 if symbol else -1) * (24 + top + (bits >> z))
    half = 1 << z >> 1
    return base + (residual << z) + (bits & (1 << z) - 1) - half


def shift(scale):
    return next(z for z in range(40) if scale >> z < 4096)


def table(scale, q):
    decays = decay(scale), decay(9 * scale // 16)
    powers = [1 << 30], [1 << 30]
    for part, factor in zip(powers, decays):
        for _ in range(420):
            part.append(part[-1] * factor >> 30)
    tails = [one // 2 + (other << 30) // ((1 << 30) + other) for one, other in zip(*powers)]

    def above(n):
        return tails[n] if n >= 0 else (1 << 31) - tails[-n]

    inner = [above(16 * e - 8 - q) - above(16 * e + 8 - q) >> 7 for e in range(-24, 25)]
    lowest = (1 << 31) - above(-24 * 16 - 8 - q) >> 7
    frequencies = [lowest, *inner, above(24 * 16 + 8 - q) >> 7]
    return [f + 64 + 4096 * (24 <= n <= 26) for n, f in enumerate(frequencies)]


def decay(scale):
    power = (1 << 60) - ((64 << 60) // scale >> 20)
    for _ in range(20):
        power = power * power >> 60
    return power >> 30
