"""The line search, one trial after the other (Moré and Thuente 1994, ACM TOMS 20:3).

Along the line the objective is a function f of the step. A step is accepted if both Wolfe
conditions hold: ``f(step) <= f(0) + DECREASE * step * f'(0)`` and ``abs(f'(step)) <= CURVATURE *
abs(f'(0))``. The best step so far and another one are the ends of an interval, which contains such
a step once it is bracketed, and shrinks from trial to trial. The constants are those of L-BFGS-B
(Zhu et al. 1997).
"""

import math

from fastbp.compiler.jit import inner_kernel

DECREASE, CURVATURE = 1e-3, 0.9
RESOLUTION = 0.1  # of the interval, relative to its upper end
LONGEST = 1e10
SHRINKAGE = 0.66  # of the interval over two trials, at least; else it is halved
NEAREST, FARTHEST = 1.1, 4.0  # extrapolation, in distances from the best, until bracketed

# The state of a search.
STEP = 0  # of the trial
IS_BRACKETED = 1
IN_STAGE_TWO = 2  # once a trial met the first condition with a slope not below 0
VALUE, SLOPE = 3, 4  # f and f' at a step of 0
BEST, BEST_VALUE, BEST_SLOPE = 5, 6, 7
OTHER, OTHER_VALUE, OTHER_SLOPE = 8, 9, 10
WIDTH, WIDTH_BEFORE = 11, 12
LEAST, MOST = 13, 14  # the bounds of the next step
OF_SEARCH = 15


@inner_kernel
def begin_search(search, step, value, slope):
    """Set up the state of a search whose first trial is at `step`."""
    search[STEP], search[VALUE], search[SLOPE] = step, value, slope
    search[IS_BRACKETED] = search[IN_STAGE_TWO] = 0
    search[BEST] = search[OTHER] = 0
    search[BEST_VALUE] = search[OTHER_VALUE] = value
    search[BEST_SLOPE] = search[OTHER_SLOPE] = slope
    search[WIDTH], search[WIDTH_BEFORE] = LONGEST, 2 * LONGEST
    search[LEAST], search[MOST] = 0, step + FARTHEST * step


@inner_kernel
def ends_search(search, value, slope):
    """Return whether the trial, with these f and f', is the last one; else set the next step.

    If no better step can be told apart from it, it is the last even if it is not acceptable.
    """
    step = search[STEP]
    least_slope = DECREASE * search[SLOPE]
    line = search[VALUE] + step * least_slope
    if value <= line and slope >= 0:
        search[IN_STAGE_TWO] = 1
    if (
        _has_shrunk(search, step)
        or (step == LONGEST and value <= line and slope <= least_slope)
        or (step == 0 and (value > line or slope >= least_slope))
        or (value <= line and abs(slope) <= -CURVATURE * search[SLOPE])
    ):
        return True
    # At first, while f is above the line, its distance from the line is minimised instead.
    tilt = 0.0
    if search[IN_STAGE_TWO] == 0 and line < value <= search[BEST_VALUE]:
        tilt = least_slope
    search[BEST_VALUE] -= search[BEST] * tilt
    search[BEST_SLOPE] -= tilt
    search[OTHER_VALUE] -= search[OTHER] * tilt
    search[OTHER_SLOPE] -= tilt
    step = _choose_step(search, value - step * tilt, slope - tilt)
    search[BEST_VALUE] += search[BEST] * tilt
    search[BEST_SLOPE] += tilt
    search[OTHER_VALUE] += search[OTHER] * tilt
    search[OTHER_SLOPE] += tilt
    best, other = search[BEST], search[OTHER]
    if search[IS_BRACKETED] != 0:
        width = abs(other - best)
        if width >= SHRINKAGE * search[WIDTH_BEFORE]:
            step = best + 0.5 * (other - best)
        search[WIDTH_BEFORE], search[WIDTH] = search[WIDTH], width
        search[LEAST], search[MOST] = min(best, other), max(best, other)
    else:
        search[LEAST], search[MOST] = (
            step + NEAREST * (step - best),
            step + FARTHEST * (step - best),
        )
    step = min(step, LONGEST) if step > 0 else 0.0  # also for NaN
    search[STEP] = best if _has_shrunk(search, step) else step
    return False


@inner_kernel
def _has_shrunk(search, step):
    """Return whether the bracket is practically a point, or the step is not inside it."""
    least, most = search[LEAST], search[MOST]
    is_point = step <= least or step >= most or most - least <= RESOLUTION * most
    return search[IS_BRACKETED] != 0 and is_point


@inner_kernel
def _choose_step(search, value, slope):
    """Return the next step, from f and f' at this one, which becomes an end of the interval."""
    step, best, other = search[STEP], search[BEST], search[OTHER]
    best_value, best_slope = search[BEST_VALUE], search[BEST_SLOPE]
    cubic, is_beyond = _find_least(step, value, slope, best, best_value, best_slope)
    secant = step + slope / (slope - best_slope) * (best - step)
    is_opposite = (slope < 0 < best_slope) or (best_slope < 0 < slope)
    was_bracketed = search[IS_BRACKETED] != 0
    if value > best_value:
        cubic, _ = _find_least(best, best_value, best_slope, step, value, slope)
        chord = (best_value - value) / (step - best) + best_slope
        parabola = best + best_slope / chord / 2 * (step - best)
        new = cubic
        if not abs(cubic - best) <= abs(parabola - best):
            new = cubic + (parabola - cubic) / 2
        search[IS_BRACKETED] = 1
    elif is_opposite:
        new = cubic if abs(cubic - step) > abs(secant - step) else secant
        search[IS_BRACKETED] = 1
    elif abs(slope) < abs(best_slope):
        if not is_beyond:
            cubic = search[MOST] if step > best else search[LEAST]
        is_nearer = abs(cubic - step) < abs(secant - step)
        if was_bracketed:
            new, bound = cubic if is_nearer else secant, step + SHRINKAGE * (other - step)
            new = min(bound, new) if step > best else max(bound, new)
        else:
            new = cubic if abs(cubic - step) > abs(secant - step) else secant
            new = min(max(new, search[LEAST]), search[MOST])
    elif was_bracketed:
        new, _ = _find_least(step, value, slope, other, search[OTHER_VALUE], search[OTHER_SLOPE])
    else:
        new = search[MOST] if step > best else search[LEAST]
    if value > best_value:
        search[OTHER], search[OTHER_VALUE], search[OTHER_SLOPE] = step, value, slope
    else:
        if is_opposite:
            search[OTHER], search[OTHER_VALUE], search[OTHER_SLOPE] = best, best_value, best_slope
        search[BEST], search[BEST_VALUE], search[BEST_SLOPE] = step, value, slope
    return new


@inner_kernel
def _find_least(a, value_a, slope_a, b, value_b, slope_b):
    """Return where the cubic through two points is least, and whether that is beyond a.

    Beyond is on the side away from b. If there is no minimum, the second is False.
    """
    theta = 3 * (value_a - value_b) / (b - a) + slope_a + slope_b
    scale = max(abs(theta), abs(slope_a), abs(slope_b))
    square = (theta / scale) ** 2 - (slope_a / scale) * (slope_b / scale)
    root = scale * math.sqrt(max(0.0, square))
    if b < a:
        root = -root
    share = ((root - slope_a) + theta) / (((root - slope_a) + root) + slope_b)
    return a + share * (b - a), share < 0 and root != 0
