"""The baton that a search's threads pass on: who holds it, and that no thread waits for ever."""

import ctypes
import threading
from contextlib import suppress
from types import SimpleNamespace

from fastbp.baton import ENOUGH, Baton, laid_down, others_suffice, run_apart
from fastbp.kernels.baton import TAKEN, WAITING

PLAN = SimpleNamespace(address=12)  # it is only passed on


def run(function):
    """Run a Python function in place of a compiled one."""
    said = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_int64] * 3)
    called = kind(lambda *arguments: said.append((arguments, function())))
    run_apart(ctypes.cast(called, ctypes.c_void_p).value, PLAN)
    [(arguments, result)] = said
    assert arguments == (PLAN.address, 0, 1, 0)
    return result


def is_taken(baton):
    return bool(baton._shared[TAKEN])


def hold_elsewhere(baton):
    """Have another thread take the baton and sleep; return a function that ends it."""
    has_it, may_end = threading.Event(), threading.Event()

    def hold():
        with baton.passed_on():
            has_it.set()
            may_end.wait()

    def end():
        may_end.set()
        thread.join()

    thread = threading.Thread(target=hold)
    thread.start()
    has_it.wait()
    return end


def test_a_thread_has_it_but_for_compiled_calls():
    baton = Baton(2)
    for _ in range(3):
        with baton.passed_on():
            assert is_taken(baton)
            for _ in range(3):
                assert not run(lambda: is_taken(baton))
                assert is_taken(baton)
        assert not is_taken(baton)


def test_without_one_a_call_is_a_call():
    baton = Baton(2)
    assert not run(lambda: is_taken(baton))
    with baton.passed_on():
        pass
    assert not run(lambda: is_taken(baton))
    assert not is_taken(baton)


def test_it_is_laid_down():
    baton = Baton(2)
    with baton.passed_on():
        with laid_down():
            assert not is_taken(baton)
            with laid_down():
                assert not run(lambda: is_taken(baton))
            assert not is_taken(baton)
        assert is_taken(baton)
    with laid_down():  # in a thread without a baton
        assert not is_taken(baton)


def test_errors_leave_it_to_others():
    baton = Baton(2)
    with suppress(KeyError), baton.passed_on():
        with suppress(ValueError), laid_down():
            raise ValueError
        assert is_taken(baton)
        raise KeyError
    assert not is_taken(baton)
    assert not run(lambda: is_taken(baton))


def test_who_waits_in_vain_goes_on_and_takes_nothing_away():
    baton = Baton(2)
    end = hold_elsewhere(baton)
    with baton.passed_on():
        assert run(lambda: is_taken(baton))  # the other thread holds it
        with laid_down():
            assert is_taken(baton)
    assert is_taken(baton)
    end()
    assert not is_taken(baton)


def test_who_has_waited_in_vain_may_have_it_after_the_next_call():
    baton = Baton(2)
    end = hold_elsewhere(baton)
    with baton.passed_on():
        end()
        assert not is_taken(baton)
        assert not run(lambda: is_taken(baton))
        assert is_taken(baton)
    assert not is_taken(baton)


def test_threads_that_pass_it_on_all_end():
    baton, counts = Baton(4), [0] * 4

    def work(number):
        with baton.passed_on():
            for _ in range(300):
                counts[number] += 1
                run(lambda: None)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [300] * 4
    assert not is_taken(baton)


def test_a_thread_may_leave_once_others_waited_whenever_it_came():
    baton = Baton(2)
    assert not others_suffice()  # this thread has no baton
    with baton.passed_on():
        assert not others_suffice()
        assert not others_suffice()  # it has made no call since
        for n_waiting in (ENOUGH, ENOUGH + 1, ENOUGH):
            baton._shared[WAITING] = n_waiting
            run(lambda: None)
            assert baton._shared[WAITING] == n_waiting
        assert others_suffice()
        assert not others_suffice()
        for n_waiting in (ENOUGH, ENOUGH - 1, ENOUGH):
            baton._shared[WAITING] = n_waiting
            run(lambda: None)
        assert not others_suffice()
        with laid_down():
            assert not others_suffice()
