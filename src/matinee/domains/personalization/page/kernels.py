"""Compiled loops of a page. They stand in a module of their own so that numba finds them compiled in the next process.

`build` makes a whole page in one call; `look`, `logits`, `seen` and `row_powers` are the steps of `construct`, which
also walks along pages and states whole distributions. Both give the same bits: every sum is made in the same order.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,type-var"

from __future__ import annotations

import numpy as np

from matinee.domains.personalization.page.construct import DEAREST, FAR, LEAST_BOOST
from matinee.models.kernels import compiled

NOTHING = 1e-200  # a sum of powers below this is made anew from the largest that is left
FEW = 400  # titles of a row that is filled from its own titles rather than from all, once the others are full
PRUNED = 256  # titles after which standing rows that cannot be chosen any more are looked for


@compiled
def boosted(title, begin, genre, share, price, calibration):
    """What the worth of a candidate is multiplied by: above 1 where the page has too little of its genres so far.

    1 for what has no genre: it is neither too many nor too few.
    """
    if begin[title + 1] == begin[title]:
        return 1.0
    lean = -1.0
    for k in range(begin[title], begin[title + 1]):
        lean += share[k] * price[genre[k]]
    return max(1.0 + calibration * lean, LEAST_BOOST)


@compiled
def leaned(title, genre, share, bare, price, calibration):
    """`boosted`, from genres laid out as a table."""
    lean = -1.0
    for k in range(genre.shape[1]):
        lean += share[title, k] * price[genre[title, k]]
    return 1.0 if bare[title] else max(1.0 + calibration * lean, LEAST_BOOST)


@compiled
def look(
    lists, starts, lengths, free, closed, worth, where, begin, genre, share, price, calibration, steps, seen, least, weight,
    stands_for, genre_rows, codes, above, diversity, values, read,
):  # fmt: skip
    """Value of each row that is left and long enough, as far as it is seen before anybody scrolls; others stay -1."""
    kept = np.zeros(seen, np.int64)
    for r in range(len(lengths)):
        if not free[r]:
            continue
        value, n, j = 0.0, 0, starts[r]
        while j < lengths[r] and n < seen:
            t = lists[r, j]
            read[t] = True
            j += 1
            if closed[t]:
                continue
            if n < len(steps):
                value += steps[n] * worth[t] * boosted(where[t], begin, genre, share, price, calibration)
            kept[n] = t
            n += 1
        # What is on the page never leaves it: what was kept is moved up to what comes after, not to be walked again.
        starts[r] = j - n
        for k in range(n):
            lists[r, j - n + k] = kept[k]
        if n >= least[r]:
            times = 1.0 if codes[r] == above else 0.0
            for g in range(len(genre_rows)):
                times += stands_for[r, g] * genre_rows[g]
            values[r] = value * weight[r] * diversity**times


@compiled
def logits(pool, worth, where, begin, genre, share, price, calibration):
    """Log of what each title of a row is worth now."""
    out = np.empty(len(pool))
    for i in range(len(pool)):
        t = pool[i]
        out[i] = np.log(worth[t] * boosted(where[t], begin, genre, share, price, calibration))
    return out


@compiled
def seen(titles, looked, steps, where, begin, genre, share, mix):
    """Adds what a row shows to the mix of the page; the sum of the mix."""
    for i in range(len(titles)):
        t = where[titles[i]]
        for k in range(begin[t], begin[t + 1]):
            mix[genre[k]] += looked * steps[i] * share[k]
    return mix.sum()


@compiled
def row_powers(values, best, temperature, out):
    """Chances of rows in proportion to their value to the power of 1 / temperature; 0 for those worth nothing."""
    total = 0.0
    for r in range(len(values)):
        out[r] = np.exp(np.log(values[r] / best) / temperature) if values[r] > 0.0 else 0.0
        total += out[r]
    for r in range(len(values)):
        out[r] /= total


@compiled
def pick(chances, uniform):
    """A row, and the part of the number that was not used up, again uniform."""
    row, run, begin = -1, 0.0, 0.0
    for r in range(len(chances)):
        if chances[r] == 1.0:
            return r, uniform
    for r in range(len(chances)):
        if chances[r] > 0.0:
            row, begin = r, run
            run += chances[r]
            if uniform < run:
                break
    return row, min(max((uniform - begin) / chances[row], 0.0), 1 - 1e-16)


@compiled
def keep_contracts(values, owner, shown, terms, rows, placed):
    """Close rows (-1) so that contracts stay keepable: of who has enough, and all but owed ones when time is up.

    `terms` holds owner, at least, at most (-1 for any number) and within (0 for the whole page) of each contract.
    """
    owed = np.zeros((len(terms), 3), np.int64)  # deadline, rows owed, owner
    debts = 0
    for c in range(len(terms)):
        whose, at_least, at_most = terms[c, 0], terms[c, 1], terms[c, 2]
        has = shown[whose]
        enough = 0 <= at_most <= has
        some = False
        for r in range(len(values)):
            if owner[r] == whose and values[r] >= 0.0:
                if enough:
                    values[r] = -1.0
                else:
                    some = True
        if has < at_least and some:
            deadline = terms[c, 3] if terms[c, 3] > 0 else rows
            at = debts  # the nearest deadline first; of equal ones the first that was agreed
            while at > 0 and owed[at - 1, 0] > deadline:
                owed[at] = owed[at - 1]
                at -= 1
            owed[at, 0], owed[at, 1], owed[at, 2] = deadline, at_least - has, whose
            debts += 1
    running = 0
    for k in range(debts):
        running += owed[k, 1]
        if running >= owed[k, 0] - placed:
            for r in range(len(values)):
                among = False
                for d in range(k + 1):
                    among = among or owner[r] == owed[d, 2]
                if not among:
                    values[r] = -1.0
            return


@compiled
def draw(weights, values, even, open_, limited, left, slots, uniforms, picked, chance):
    """Fill slots from a mixture of softmaxes: `matinee.draw.fill_slots` for what a page needs, without its arrays.

    Args:
        weights: Of the softmaxes, shape (parts,).
        values: Their logits, shape (parts, titles).
        even: Weight of one more part, the even one.
        open_: Which titles are left; changed.
        limited: Groups of titles, shape (limits, titles); -1 for none.
        left: What each group may still show, shape (limits, groups); changed.
        slots, uniforms: How many at most, and the numbers they are drawn by.
        picked, chance: Written: the place of each title in the pool, and its conditional chance.

    Returns:
        How many slots were filled.
    """
    parts, n = values.shape
    powers, p = np.empty((parts, n)), np.empty(n)
    for c in range(parts):
        largest = values[c].max()
        for i in range(n):
            powers[c, i] = np.exp(values[c, i] - largest)
    remaining = n
    for k in range(min(slots, n)):
        if remaining == 0:
            return k
        u, run, choice = uniforms[k], 0.0, -1
        rest = even / remaining
        total = 0.0
        for i in range(n):
            total += powers[0, i]
        if parts == 1 and total > NOTHING:
            share = weights[0] / total
            for i in range(n):
                step = share * powers[0, i] + rest
                if open_[i] and step > 0.0:
                    run += step
                    choice, chance[k] = i, step
                    if u < run:
                        break
        else:
            mixture(weights, values, powers, rest, open_, p)
            for i in range(n):
                if p[i] > 0.0:
                    run += p[i]
                    choice, chance[k] = i, p[i]
                    if u < run:
                        break
        picked[k] = choice
        open_[choice] = False
        remaining -= 1
        for c in range(parts):
            powers[c, choice] = 0.0
        for g in range(len(limited)):
            code = limited[g, choice]
            if code >= 0:
                left[g, code] -= 1
                if left[g, code] <= 0:
                    for i in range(n):
                        if open_[i] and limited[g, i] == code:
                            open_[i] = False
                            remaining -= 1
                            for c in range(parts):
                                powers[c, i] = 0.0
    return min(slots, n)


@compiled
def mixture(weights, values, powers, rest, open_, p):
    """Writes the distribution over what is open into `p`: softmaxes, whose powers are 0 where closed, and `rest` each."""
    n = len(open_)
    for i in range(n):
        p[i] = 0.0
    for c in range(len(weights)):
        total = 0.0
        for i in range(n):
            total += powers[c, i]
        if total > NOTHING:
            share = weights[c] / total
            for i in range(n):
                p[i] += share * powers[c, i]
            continue
        # Everything left lies so far below what is taken that its power vanished: start from its own top.
        best = -1
        for i in range(n):
            if open_[i] and (best < 0 or values[c, i] > values[c, best]):
                best = i
        total = 0.0
        for i in range(n):
            if open_[i]:
                total += np.exp(values[c, i] - values[c, best])
        for i in range(n):
            if open_[i]:
                p[i] += weights[c] * np.exp(values[c, i] - values[c, best]) / total
    for i in range(n):
        if open_[i]:
            p[i] += rest


@compiled
def take_in_order(limited, left, slots, picked, chance):
    """Fill slots in the order that is given, as far as limits allow; how many were filled."""
    open_ = np.ones(limited.shape[1] if len(limited) else slots, np.bool_)
    filled = 0
    for i in range(len(open_)):
        if filled == slots:
            break
        if not open_[i]:
            continue
        picked[filled], chance[filled] = i, 1.0
        filled += 1
        for g in range(len(limited)):
            code = limited[g, i]
            if code >= 0:
                left[g, code] -= 1
                if left[g, code] <= 0:
                    for k in range(i + 1, len(open_)):
                        if limited[g, k] == code:
                            open_[k] = False
    return filled


@compiled
def build(
    # The rows: titles[begins[r]:begins[r + 1]] are those of row r, and stood[...] whether each was there last time.
    titles, begins, stood, weight, ordered, least, first, codes, owner, stands_begin, stands_for, genre_rows,
    # The titles.
    worth, where, begin_of, genre_of, share_of, mix, wanted, young, limited, left,
    # The layout.
    terms, steps, looked, diversity, row_temperature, calibration, places, depth, temperature, floor, lasting, owed, budget,
    # What comes of it.
    uniforms, rows, counts, row_chance, picked, chance, read,
):  # fmt: skip
    """A whole page; how many rows it has. See `construct.construct` for what is drawn how."""
    count, n, columns = len(weight), len(worth), len(steps)
    # Genres of these titles in the order of the pool, and as many for each: what is read again and again lies together, and
    # no loop over them ends where the processor cannot foresee it. What is filled up has a share of 0.
    width = 1
    for t in range(n):
        width = max(width, begin_of[where[t] + 1] - begin_of[where[t]])
    genre, share, bare = np.zeros((n, width), np.uint32), np.zeros((n, width)), np.zeros(n, np.bool_)
    for t in range(n):
        source = begin_of[where[t]]
        own = begin_of[where[t] + 1] - source
        bare[t] = own == 0
        for k in range(own):
            genre[t, k], share[t, k] = genre_of[source + k], share_of[source + k]
    known = wanted.sum() > 0.0
    priced = known and calibration != 0.0
    seen_weight = 1.0
    price = np.ones(max(len(wanted), 1))  # one even where nothing has a genre: tables are filled up with genre 0
    # The first titles of each row that are left, what their places hold of their worth, and each of them once.
    fronts, held, filled = np.empty((count, places), np.int32), np.empty((count, places)), np.zeros(count, np.int64)
    front, in_front, ahead, boost = np.empty(n, np.int32), np.zeros(n, np.bool_), 0, np.empty(n)
    closed, free = np.zeros(n, np.bool_), np.ones(count, np.bool_)
    starts = begins[:-1].copy()
    kept = np.zeros(places, np.int64)
    longest = 1
    for r in range(count):
        longest = max(longest, begins[r + 1] - begins[r])
    pool, at = np.empty(longest, np.int64), np.empty(longest, np.int64)
    values, chances = np.empty(count), np.empty(count)
    shown = np.zeros(owner.max() + 1 if count else 1, np.int64)
    for c in range(len(terms)):
        if terms[c, 0] >= len(shown):
            shown = np.zeros(terms[c, 0] + 1, np.int64)
    most = 1
    for r in range(count):
        most = max(most, stands_begin[r + 1] - stands_begin[r])
    fewer = np.empty(most * len(rows) + 2)
    for k in range(len(fewer)):
        fewer[k] = diversity ** float(k)
    young_shown, slots, above, page = 0, 0, -1, 0
    spent = False  # whether some group of a limit has nothing left
    for g in range(len(left)):
        for k in range(left.shape[1]):
            spent = spent or left[g, k] <= 0
    while page < len(rows):
        if priced:
            for g in range(len(wanted)):
                price[g] = min(wanted[g] * seen_weight / max(mix[g], 1e-12), DEAREST)
            still = 0
            for k in range(ahead):
                t = front[k]
                if not closed[t]:
                    boost[t] = leaned(t, genre, share, bare, price, calibration)
                    front[still] = t
                    still += 1
            ahead = still
        # Which row.
        for r in range(count):
            values[r] = -1.0
            if not free[r]:
                continue
            stale = page == 0
            for k in range(filled[r]):
                stale = stale or closed[fronts[r, k]]
            if stale:
                # What is on the page never leaves it: what was kept is moved up, not to be walked again.
                j, found, end = starts[r], 0, begins[r + 1]
                while j < end and found < places:
                    t = titles[j]
                    read[t] = True
                    if not closed[t]:
                        kept[found], fronts[r, found] = j, t
                        held[r, found] = steps[found] * worth[t] if found < columns else 0.0
                        found += 1
                        if not in_front[t]:
                            in_front[t], front[ahead] = True, t
                            ahead += 1
                            boost[t] = leaned(t, genre, share, bare, price, calibration)
                    j += 1
                filled[r], starts[r] = found, j - found
                for k in range(found - 1, -1, -1):
                    titles[starts[r] + k], stood[starts[r] + k] = titles[kept[k]], stood[kept[k]]
            value = 0.0
            for k in range(min(filled[r], columns)):
                value += held[r, k] * boost[fronts[r, k]]
            if filled[r] >= least[r]:
                times = 1 if codes[r] == above else 0
                for k in range(stands_begin[r], stands_begin[r + 1]):
                    times += genre_rows[stands_for[k]]
                values[r] = value * weight[r] * fewer[times]
        row, certain = -1, 1.0
        if first >= 0 and values[first] >= 0.0:
            row = first
        else:
            if len(terms):
                keep_contracts(values, owner, shown, terms, len(rows), page)
            for r in range(count):
                if values[r] >= 0.0 and (row < 0 or values[r] > values[row]):
                    row = r
            if row < 0:
                return page
            if row_temperature != 0.0 and values[row] != 0.0:
                row_powers(values, values[row], row_temperature, chances)
                row, uniforms[slots] = pick(chances, uniforms[slots])
                certain = chances[row]
        # Its titles.
        size, has_young = 0, False
        most_pool = longest if ordered[row] else depth * columns
        for j in range(starts[row], begins[row + 1]):
            if size == most_pool:
                break
            if not closed[titles[j]]:
                pool[size], at[size] = titles[j], j
                size += 1
        for i in range(size):
            read[pool[i]] = True
            has_young = has_young or (len(young) > 0 and young[pool[i]])
        groups = np.empty((len(limited), size), np.int64)
        for g in range(len(limited)):
            for i in range(size):
                groups[g, i] = limited[g, pool[i]]
        if ordered[row]:
            drawn = take_in_order(groups, left, min(columns, size), picked[slots:], chance[slots:])
        else:
            give = owed if has_young and young_shown < budget else 0.0
            parts = 1 + (give > 0.0)
            weights, points = np.empty(parts), np.zeros((parts, size))
            weights[0] = (1 - floor) * (1 - give)
            for i in range(size):
                t = pool[i]
                points[0, i] = np.log(worth[t] * leaned(t, genre, share, bare, price, calibration))
                if stood[at[i]]:
                    points[0, i] += lasting
                points[0, i] /= temperature
            if give > 0.0:
                weights[1] = (1 - floor) * give
                largest = points[0].max()
                for i in range(size):
                    points[1, i] = 0.0 if young[pool[i]] else FAR + points[0, i] - largest
            drawn = draw(
                weights, points, floor, np.ones(size, np.bool_), groups, left, columns, uniforms[slots:], picked[slots:],
                chance[slots:],
            )  # fmt: skip
        # It stands.
        free[row] = False
        above = codes[row]
        shown[owner[row]] += 1
        for k in range(stands_begin[row], stands_begin[row + 1]):
            genre_rows[stands_for[k]] += 1
        chance[slots] *= certain
        rows[page], counts[page], row_chance[page] = row, drawn, certain
        for i in range(drawn):
            t = pool[picked[slots + i]]
            picked[slots + i] = t
            closed[t] = True
            young_shown += len(young) > 0 and young[t]
            if known:
                for k in range(width):
                    mix[genre[t, k]] += looked[page] * steps[i] * share[t, k]
            for g in range(len(limited)):
                spent = spent or (limited[g, t] >= 0 and left[g, limited[g, t]] <= 0)
        if known:
            seen_weight = mix.sum()
        if spent:
            for g in range(len(limited)):
                for t in range(n):
                    closed[t] = closed[t] or (limited[g, t] >= 0 and left[g, limited[g, t]] <= 0)
            spent = False
        slots += drawn
        page += 1
    return page


@compiled
def gather(order, at, worth, begin, of_title, offsets, members, named, weight, steps, least, most, lists, lengths, value):
    """Fill standing rows with their candidates, in the order given, until they are full; and what their places hold.

    A row that cannot be among the best `most` any more is left as it is, with a value of -1: what it holds and what its
    empty places can hold at most is worth less than what that many rows hold already.

    Args:
        order: Candidates, the largest `worth` first (in float32).
        at: Of each candidate: which title it is; -1 for none of the catalogue.
        worth: Of each candidate.
        begin, of_title: Rows of title t are of_title[begin[t]:begin[t + 1]].
        offsets, members: Titles of row r are members[offsets[r]:offsets[r + 1]].
        named: Rows that are wanted whatever they are worth.
        weight: Of each row.
        steps: Of the places that count.
        least: A row of fewer is none.
        most: Rows that will be taken by their value.
        lists, lengths, value: Written: candidates of each row, how many, what the places that count hold times weight.
    """
    count, wide = lists.shape
    sizes = offsets[1:] - offsets[:-1]
    tail = np.zeros(wide + 1)  # what places from here on can hold, of titles worth 1
    padded = np.zeros(wide + 1)
    for n in range(min(len(steps), wide) - 1, -1, -1):
        padded[n] = steps[n]
        tail[n] = tail[n + 1] + steps[n]
    open_, small = np.ones(count, np.bool_), sizes <= FEW
    going = 0  # rows of many titles that are not full
    for r in range(count):
        going += not small[r]
    known = np.empty(count)
    after = len(order)
    for o in range(len(order)):
        i = order[o]
        t = at[i]
        if t >= 0:
            for k in range(begin[t], begin[t + 1]):
                r = of_title[k]
                if open_[r]:
                    n = lengths[r]
                    lists[r, n] = i
                    value[r] += padded[n] * worth[i]
                    lengths[r] = n + 1
                    if n + 1 == min(wide, sizes[r]):
                        open_[r] = False
                        going -= not small[r]
        if o % PRUNED < PRUNED - 1:
            continue
        enough = 0
        for r in range(count):
            if not named[r] and lengths[r] >= least and value[r] >= 0.0:
                known[enough] = value[r] * weight[r]
                enough += 1
        if enough >= most:
            bar = np.partition(known[:enough], enough - most)[enough - most]
            ceiling = worth[i] * (1 + 1e-6)  # the order is that of float32
            for r in range(count):
                if open_[r] and not named[r] and (value[r] + tail[lengths[r]] * ceiling) * weight[r] < bar:
                    open_[r], value[r] = False, -1.0
                    going -= not small[r]
        if going == 0:
            after = o + 1
            break
    if after < len(order):
        # Only rows of few titles are left: the rest of their own titles, brought into the order by counting.
        place = np.full(len(begin) - 1, -1, np.int32)
        for o in range(after, len(order)):
            if at[order[o]] >= 0:
                place[at[order[o]]] = o - after
        ends = np.zeros(len(order) - after + 1, np.int32)
        for r in range(count):
            if open_[r]:
                for m in range(offsets[r], offsets[r + 1]):
                    if place[members[m]] >= 0:
                        ends[place[members[m]] + 1] += 1
        for o in range(1, len(ends)):
            ends[o] += ends[o - 1]
        of_place = np.empty(ends[-1], np.int16)
        for r in range(count):
            if open_[r]:
                for m in range(offsets[r], offsets[r + 1]):
                    o = place[members[m]]
                    if o >= 0:
                        of_place[ends[o]] = r
                        ends[o] += 1
        k = 0
        for o in range(len(ends) - 1):
            while k < ends[o]:
                r, i = of_place[k], order[after + o]
                n = lengths[r]
                if n < wide:
                    lists[r, n] = i
                    value[r] += padded[n] * worth[i]
                    lengths[r] = n + 1
                k += 1
    for r in range(count):
        value[r] = value[r] * weight[r] if lengths[r] >= least and value[r] >= 0.0 else -1.0


@compiled
def falling(bits, order):
    """Positions from the largest of some float32 to the smallest, given their bits; of equal ones the first comes first.

    A radix sort of 11 bits at a time.
    """
    n = len(bits)
    keys, other = np.empty(n, np.uint32), np.empty(n, np.uint32)
    places = np.empty(n, order.dtype)
    counts = np.zeros((3, 2048), np.int64)
    for i in range(n):
        b = bits[i]
        # Rising for positive numbers and falling for negative ones, and all of it the other way round.
        key = b if b >> np.uint32(31) else np.uint32(~b) & np.uint32(0x7FFFFFFF)
        keys[i] = key
        counts[0, key & np.uint32(2047)] += 1
        counts[1, (key >> np.uint32(11)) & np.uint32(2047)] += 1
        counts[2, key >> np.uint32(22)] += 1
    for digit in range(3):
        run = 0
        for k in range(2048):
            run, counts[digit, k] = run + counts[digit, k], run
    for i in range(n):
        to = counts[0, keys[i] & np.uint32(2047)]
        counts[0, keys[i] & np.uint32(2047)] = to + 1
        other[to], places[to] = keys[i], i
    # Two more passes, the last into `order`.
    second = np.empty(n, order.dtype)
    for i in range(n):
        digit = (other[i] >> np.uint32(11)) & np.uint32(2047)
        to = counts[1, digit]
        counts[1, digit] = to + 1
        keys[to], second[to] = other[i], places[i]
    for i in range(n):
        digit = keys[i] >> np.uint32(22)
        to = counts[2, digit]
        counts[2, digit] = to + 1
        order[to] = second[i]
