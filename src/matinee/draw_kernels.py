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
def fill(weights, kinds, values, open_, codes, limits, forced, uniforms, picked, chance, matrix):
    n = open_.shape[0]
    slots = picked.shape[0]
    p = np.zeros(n)
    used = np.zeros((codes.shape[0], n + 1), np.int64)
    powers = powers_of(kinds, values)
    alone = weights.shape[0] == 1 and kinds[0] == 0 and matrix.shape[0] == 0
    for k in range(slots):
        first = first_open(open_)
        if first < 0:
            return k
        if alone:
            # One softmax, and nobody asks for the whole distribution: the same sums without writing it down.
            total = 0.0
            for i in range(n):
                if open_[i]:
                    total += powers[0, i]
            if total > 1e-200:
                share = weights[0] / total
                choice = forced[k]
                if choice < 0:
                    u = uniforms[k]
                    run = 0.0
                    for i in range(n):
                        if open_[i] and powers[0, i] > 0.0:
                            step = share * powers[0, i]
                            if step > 0.0:
                                run += step
                                choice = i
                                if u < run:
                                    break
                picked[k] = choice
                chance[k] = share * powers[0, choice] if open_[choice] else 0.0
                take(choice, open_, codes, limits, used)
                continue
        spread(weights, kinds, values, powers, open_, first, p)
        choice = forced[k]
        if choice < 0:
            choice = drawn(p, open_, uniforms[k])
        picked[k] = choice
        chance[k] = p[choice]
        if matrix.shape[0] > 0:
            for i in range(n):
                matrix[k, i] = p[i]
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
