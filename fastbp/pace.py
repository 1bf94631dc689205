"""How long each compiled call is, and on how many threads: what has been timed decides."""

from collections import deque

__all__ = ["Pace"]


class Pace:
    """Plans compiled calls: how long each may be, and on how many threads.

    A call lasts a tenth of a second, so that Ctrl-C is heard between two. Threads wait for one
    another twice a mini-batch: where another process has one of the cores, that can cost far more
    than the work. Results are the same bits either way, so one thread and several are both timed,
    and the slower is tried again from time to time, in short calls. Several must be faster by a
    tenth. What is over sooner than a thread that sleeps would come, some 50 microseconds, is done
    on one, and tells nothing.

    Parameters
    ----------
    n_threads : int
        The most to use.
    patience : float
        Seconds on one thread before others are started.
    unit_seconds : float
        A guess at the time of a unit of work, until one is timed.
    """

    CALL_SECONDS = 0.1
    LEAST_SECONDS = 0.0002  # of a call for which others are started
    TELLING_SECONDS = 0.002  # of a call that counts where it is slower: a region has its cost
    TRIAL_SECONDS = 0.0025
    WORTHWHILE = 0.9  # of the time on one
    TRIAL_CALLS = 3  # each as long as the one before lets hope; the best counts
    # The slower is tried again after so many times what a trial costs: soon at first, and after the
    # faster has become slower, which may be a disturbance; less and less often while that stays.
    LEAST_RETRY, MOST_RETRY = 2.0, 20.0

    def __init__(self, n_threads: int, patience: float, unit_seconds: float) -> None:
        self.n_threads = n_threads
        self.patience = patience
        self._guess = unit_seconds
        # Seconds of a unit in the last calls, by number of threads.
        self._timed: dict[int, deque[float]] = {n: deque(maxlen=3) for n in (1, n_threads)}
        self._since_trial = 0.0
        self._retry = self.LEAST_RETRY
        self._trials: list[int] = []  # calls to come, as numbers of threads

    def plan(self, remaining: int) -> tuple[int, int]:
        """Return the number of threads, and how many of the remaining units, for the next call."""
        if self.n_threads == 1:
            return 1, max(1, min(remaining, int(self.CALL_SECONDS / self._expected(1))))
        if self._is_short(remaining):
            return 1, remaining
        if remaining * self._expected(1) < self.TRIAL_SECONDS:
            self._trials = []  # too little is left to tell
        elif not self._trials and self._since_trial > self._patience():
            slower = self._ranked()[1]
            self._trials = [slower] * self.TRIAL_CALLS
        if self._trials:
            n_threads, seconds = self._trials[0], self.TRIAL_SECONDS
        else:
            n_threads, seconds = self._ranked()[0], self.CALL_SECONDS
            if not self._timed[self.n_threads]:
                left = self.patience - self._since_trial
                seconds = min(seconds, max(left, self.TRIAL_SECONDS))
        return n_threads, max(1, min(remaining, int(seconds / self._expected(n_threads))))

    def record(self, n_threads: int, units: int, seconds: float) -> None:
        """Learn how long such a call took."""
        timed, fastest = self._timed[n_threads], self._ranked()[0]
        if n_threads == 1 and self._is_short(units):
            return
        is_slower = bool(timed) and seconds / units >= self._expected(n_threads)
        if seconds < self.TELLING_SECONDS and is_slower and not self._trials:
            return  # it may be the region's cost
        if len(self._trials) == self.TRIAL_CALLS:
            timed.clear()
        timed.append(seconds / units)
        if self._trials:
            tried = self._trials.pop()
            self._since_trial = 0.0
            if not self._trials:
                best = min(timed)
                timed.clear()
                timed.append(best)
                is_faster = self._ranked()[0] == tried
                self._retry = (
                    self.MOST_RETRY if is_faster else min(2 * self._retry, self.MOST_RETRY)
                )
        else:
            self._since_trial += seconds
            if self._ranked()[0] != fastest:
                self._retry, self._since_trial = self.LEAST_RETRY, 0.0

    def _is_short(self, units: int) -> bool:
        return self.n_threads > 1 and units * self._expected(1) < self.LEAST_SECONDS

    def _patience(self) -> float:
        """Seconds until the slower is tried, for the first time or again."""
        slower = self._ranked()[1]
        if not self._timed[slower]:
            return self.patience
        trial = self.TRIAL_CALLS * max(self.TRIAL_SECONDS, self._expected(slower))
        return self._retry * trial

    def _ranked(self) -> tuple[int, int]:
        """The numbers of threads to choose from, the faster first as far as is known."""
        if self._timed[self.n_threads] and (
            not self._timed[1]
            or self._expected(self.n_threads) < self.WORTHWHILE * self._expected(1)
        ):
            return self.n_threads, 1
        return 1, self.n_threads

    def _expected(self, n_threads: int) -> float:
        """Seconds of a unit: as timed, or with threads of which nothing is known much longer."""
        timed = sorted(self._timed[n_threads])
        if timed:
            return timed[(len(timed) - 1) // 2]  # of two the better, of three the median
        return 100 * self._expected(1) if n_threads > 1 and self._timed[1] else self._guess
