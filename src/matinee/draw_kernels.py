"""Compiled loops of the draw. They stand in a module of their own so that numba finds them compiled in the next process:
what is defined inside another function and calls its sisters is compiled anew each time.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,type-var"

from __future__ import annotations

import numpy as np

from matinee.models.kernels import compiled


@compiled
def powers_of(kinds, values):
    """exp(value - largest) of every softmax component."""
    powers = np.zeros(values.shape)
    for c in range(values.shape[0]):
        if kinds[c] == 0:
            top = values[c].max()
            for i in range(values.shape[1]):
                powers[c, i] = np.exp(values[c, i] - top)
    return powers


@compiled
def spread(weights, kinds, values, powers, open_, first, p):
    """Write the distribution over what is open, of which `first` is the first, into `p`."""
    n = open_.shape[0]
    for i in range(n):
        p[i] = 0.0
    for c in range(weights.shape[0]):
        total = 0.0
        if kinds[c] == 0:
            for i in range(n):
                if open_[i]:
                    total += powers[c, i]
        if total > 1e-200:
            share = weights[c] / total
            for i in range(n):
                if open_[i]:
                    p[i] += share * powers[c, i]
            continue
        row = values[c]
        best = first
        for i in range(first + 1, n):
            if open_[i] and row[i] > row[best]:
                best = i
        if kinds[c] == 1:
            p[best] += weights[c]
        else:
            # Everything left lies so far below what is taken that its power vanished: start from its own top.
            for i in range(n):
                if open_[i]:
                    total += np.exp(row[i] - row[best])
            for i in range(n):
                if open_[i]:
                    p[i] += weights[c] * np.exp(row[i] - row[best]) / total


@compiled
def drawn(p, open_, u):
    """Draw inside the allowed set only: rounding must never fall through to a masked candidate."""
    run = 0.0
    choice = -1
    for i in range(open_.shape[0]):
        if open_[i] and p[i] > 0.0:
            run += p[i]
            choice = i
            if u < run:
                break
    return choice


@compiled
def first_open(open_):
    for i in range(open_.shape[0]):
        if open_[i]:
            return i
    return -1


@compiled
def take(choice, open_, codes, limits, used):
    """Close what was chosen, and every group that it fills."""
    open_[choice] = False
    for g in range(codes.shape[0]):
        code = codes[g, choice]
        if code >= 0:
            used[g, code] += 1
            if used[g, code] >= limits[g]:
                for i in range(open_.shape[0]):
                    if codes[g, i] == code:
                        open_[i] = False


@compiled
def sums_of(powers, open_):
    """A binary tree of sums over what is open: node 1 is the whole, the leaves are the second half, 0 where closed.

    Every sum is made of its two halves anew when one changes, so that nothing of what was closed is left in it.
    """
    half = 1
    while half < open_.shape[0]:
        half *= 2
    sums = np.zeros(2 * half)
    for i in range(open_.shape[0]):
        if open_[i]:
            sums[half + i] = powers[i]
    for node in range(half - 1, 0, -1):
        sums[node] = sums[2 * node] + sums[2 * node + 1]
    return sums


@compiled
def drawn_from(sums, u):
    """Draw by walking down the tree. A half without anything in it is never entered, however rounding falls."""
    half = sums.shape[0] // 2
    node, left = 1, u * sums[1]
    while node < half:
        node *= 2
        if left >= sums[node] and sums[node + 1] > 0.0:
            left -= sums[node]
            node += 1
    return node - half


@compiled
def close(choice, open_, codes, limits, used, sums):
    """`take`, with the tree kept up to date."""
    half = sums.shape[0] // 2
    open_[choice] = False
    node = half + choice
    sums[node] = 0.0
    while node > 1:
        node //= 2
        sums[node] = sums[2 * node] + sums[2 * node + 1]
    for g in range(codes.shape[0]):
        code = codes[g, choice]
        if code >= 0:
            used[g, code] += 1
            if used[g, code] >= limits[g]:
                for i in range(open_.shape[0]):
                    if codes[g, i] == code:
                        open_[i] = False
                        sums[half + i] = 0.0
                for above in range(half - 1, 0, -1):
                    sums[above] = sums[2 * above] + sums[2 * above + 1]


@compiled
def fill(weights, kinds, values, open_, codes, limits, forced, uniforms, picked, chance, matrix):
    n = open_.shape[0]
    slots = picked.shape[0]
    p = np.zeros(n)
    used = np.zeros((codes.shape[0], n + 1), np.int64)
    powers = powers_of(kinds, values)
    alone = weights.shape[0] == 1 and kinds[0] == 0  # one softmax: its distribution need not be written down
    sums = sums_of(powers[0], open_) if alone else np.zeros(2)
    for k in range(slots):
        if alone and sums[1] > 1e-200:
            choice = forced[k]
            if choice < 0:
                choice = drawn_from(sums, uniforms[k])
            share = weights[0] / sums[1]
            picked[k] = choice
            chance[k] = share * powers[0, choice] if open_[choice] else 0.0
            if matrix.shape[0] > 0:
                for i in range(n):
                    if open_[i]:
                        matrix[k, i] = share * powers[0, i]
            close(choice, open_, codes, limits, used, sums)
            continue
        first = first_open(open_)
        if first < 0:
            return k
        spread(weights, kinds, values, powers, open_, first, p)
        choice = forced[k]
        if choice < 0:
            choice = drawn(p, open_, uniforms[k])
        picked[k] = choice
        chance[k] = p[choice]
        if matrix.shape[0] > 0:
            for i in range(n):
                matrix[k, i] = p[i]
        if alone:
            close(choice, open_, codes, limits, used, sums)
        else:
            take(choice, open_, codes, limits, used)
    return slots


@compiled
def average(weights, kinds, values, allowed, codes, limits, uniforms, mean):
    slots, n = mean.shape
    draws = uniforms.shape[0]
    parts = weights.shape[0]
    p = np.zeros(n)
    open_ = np.empty(n, np.bool_)
    used = np.zeros((codes.shape[0], n + 1), np.int64)
    powers = powers_of(kinds, values)
    # Of what is open: its powers, with zeros for the rest, and their sums, from which what is closed is taken away.
    live = np.zeros((parts, n))
    total = np.zeros(parts)
    whole = np.zeros(parts)
    soft = True
    for c in range(parts):
        soft = soft and kinds[c] == 0
        for i in range(n):
            if allowed[i]:
                whole[c] += powers[c, i]
    for draw in range(draws):
        for i in range(n):
            open_[i] = allowed[i]
            for c in range(parts):
                live[c, i] = powers[c, i] if allowed[i] else 0.0
        for c in range(parts):
            total[c] = whole[c]
        for g in range(used.shape[0]):
            for i in range(n + 1):
                used[g, i] = 0
        for k in range(slots):
            first = first_open(open_)
            if first < 0:
                break
            plain = soft
            for c in range(parts):
                if total[c] < 1e-6 * whole[c]:  # what is left would drown in the rounding of what was taken away
                    total[c] = 0.0
                    for i in range(n):
                        total[c] += live[c, i]
                plain = plain and total[c] > 1e-200
            if plain:
                share = weights[0] / total[0]
                for i in range(n):
                    p[i] = share * live[0, i]
                for c in range(1, parts):
                    share = weights[c] / total[c]
                    for i in range(n):
                        p[i] += share * live[c, i]
            else:
                spread(weights, kinds, values, powers, open_, first, p)
            for i in range(n):
                mean[k, i] += p[i]
            choice = drawn(p, open_, uniforms[draw, k])
            take(choice, open_, codes, limits, used)
            for c in range(parts):
                total[c] -= live[c, choice]
                live[c, choice] = 0.0
            for g in range(codes.shape[0]):
                code = codes[g, choice]
                if code >= 0 and used[g, code] >= limits[g]:
                    for i in range(n):
                        if codes[g, i] == code:
                            for c in range(parts):
                                total[c] -= live[c, i]
                                live[c, i] = 0.0
    for k in range(slots):
        for i in range(n):
            mean[k, i] /= draws
