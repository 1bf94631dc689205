"""Register tiles: the inner loops of every small and medium product, as vector instructions.

A tile is a block of C that stays in registers while a sum runs over p. Numba does not vectorise
such loops by itself, so they are written as LLVM IR, with vectors of the host's length: 512, 256 or
128 bits. There are two kinds, for the two ways in which B can lie in memory:

* by rows: ``C += A[:, p] * B[p, :]``, one load of B's vectors, a broadcast of each row's element of
  A, and one fused multiply-add for each pair. A tile has many rows and two vectors, or fewer rows
  and more vectors, so that enough independent sums are under way.
* by columns: ``C[i, j] = A[i, :] . B[:, j]``, with vectors along p, added up at the end. This is
  for few columns, which would leave most of a vector empty.

Each element of C is summed over p in the same order, whichever tile of its kind it falls in. So a
product has the same bits however its rows are divided among threads.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.compiler.processor import FEATURES, HAS_AVX512, HAS_FMA, IS_INTEL_512, IS_X86

VECTOR_BYTES = 64 if HAS_AVX512 else 32 if "avx" in FEATURES else 16
# Accumulators, the vectors of B and one element of A must fit 32 or 16 vector registers.
_FEW_REGISTERS = IS_X86 and VECTOR_BYTES < 64
KILOBYTE = 1024
TILE_ROWS = 6 if _FEW_REGISTERS else 8
ROW_CHOICES = (TILE_ROWS, 4, 3, 2, 1)
MOST_VECTORS = (2, 2, 2, 4, 8) if _FEW_REGISTERS else (2, 4, 4, 8, 8)  # per row, by ROW_CHOICES
# Other widths, in half vectors, for the last columns of tiles with the most rows and with one row.
# Intel's multiply whole vectors with two units, but half vectors with one of them: no halves there.
HALVES = () if _FEW_REGISTERS else (6,) if IS_INTEL_512 else (3, 5)
SUM_ROWS = 4 if _FEW_REGISTERS else TILE_ROWS  # at most, of a tile that also sums B's columns
MOST_COLUMNS = 4 if VECTOR_BYTES == 64 else 2  # at most, of a tile by columns: a vector holds them
DOT_SHAPES = (
    (TILE_ROWS, 1),
    *((rows, columns) for rows in (4, 1) for columns in range(1, MOST_COLUMNS + 1)),
)

# The epilogues: what a tile does to its block of C before the store; `factor` is another matrix.
STORE = 0  # C
RELU = 1  # max(C, 0)
MASK = 2  # C where factor is not 0, else 0: the slope of ReLU in terms of its output
SCALE = 3  # C * factor

_i64 = ir.IntType(64)


def vector_length(dtype: Any) -> int:
    """Return how many elements a vector holds."""
    return int(VECTOR_BYTES // np.dtype(dtype).itemsize)


def padded(n: int, dtype: Any) -> int:
    """Return the length of a row in memory that holds n elements and all a tile may touch.

    It has an extra vector where rows would lie whole kilobytes apart: the same columns of many rows
    would then map to the same few sets of the cache.
    """
    vector, itemsize = vector_length(dtype), np.dtype(dtype).itemsize
    width = 16 // itemsize
    while width < vector and width < n:
        width *= 2
    length = int(-(-n // width) * width)
    return length + vector if length * itemsize % KILOBYTE == 0 else length


@intrinsic
def length_of_vector(typing_context, pointer):
    """`vector_length` for the element type of a pointer, in a kernel."""

    def codegen(context, builder, signature, arguments):
        return _i64(lanes_of(pointer.dtype))

    return types.int64(pointer), codegen


@intrinsic(prefer_literal=True)
def stack_memory(typing_context, pointer, vectors):
    """Pointer, like the one given, to stack memory for a constant number of vectors."""

    def codegen(context, builder, signature, arguments):
        element = scalar_type(pointer.dtype)
        size = vectors.literal_value * VECTOR_BYTES // (pointer.dtype.bitwidth // 8)
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(element, size))
        memory.align = VECTOR_BYTES
        return builder.bitcast(memory, element.as_pointer())

    return pointer(pointer, vectors), codegen


def widths(element: Any, most: int) -> list[int]:
    """Return the possible widths, in elements, of a tile of at most `most` vectors."""
    size, choices = most * VECTOR_BYTES, []
    while size >= 16:
        choices.append(size // _itemsize(element))
        size //= 2
    return choices


def shapes_of(element: Any, n_choices: int = len(ROW_CHOICES)) -> list[tuple[int, int]]:
    """Return the rows and widths of tiles, for the first `n_choices` of ROW_CHOICES."""
    choices = list(zip(ROW_CHOICES, MOST_VECTORS, strict=True))[:n_choices]
    shapes = [(rows, width) for rows, most in choices for width in widths(element, most)]
    half = lanes_of(element) // 2
    with_halves = [rows for rows, _ in choices if rows in (ROW_CHOICES[0], 1)]
    return shapes + [(rows, n * half) for rows in with_halves for n in HALVES]


@intrinsic
def multiply_tiles(
    typing_context, count, rows, width, a, a_row, a_column, b, b_row, start, start_row, c, c_row, k,
    epilogue, factor, factor_row,
):  # fmt: skip
    """``C := epilogue(start + A @ B)`` for `count` tiles of `rows` x `width`, summed over k.

    The tiles lie one below the other, and share the setup of the first. There is at least one, and
    only one if it has fewer rows than TILE_ROWS.

    `a`, `b`, `start`, `c`, `factor` are pointers to the first elements; ``x_row`` and ``a_column``
    are strides in elements. `rows` is one of ROW_CHOICES; `width` is 128 bits times a power of two,
    up to the vectors that MOST_VECTORS has for these rows, or one of HALVES. The sum begins at 0,
    and `start` is added at the end.
    """
    element = a.dtype
    i = types.int64
    signature = types.void(i, i, i, a, i, i, a, i, a, i, a, i, i, i, a, i)

    def codegen(context, builder, signature, arguments):
        count, rows, width, *operands = arguments
        # One loop for each tile size, reached through a switch on rows and width.
        shapes = shapes_of(element)
        a, a_row, a_column, b, b_row, start, start_row, c, c_row, k, code, factor, factor_row = (
            operands
        )
        moved = a, start, c, factor

        def emit(n_rows: int, n_columns: int) -> None:
            if n_rows < TILE_ROWS:
                _emit_tile(builder, element, n_rows, n_columns, operands)
                return

            def emit_one(offsets, sums):
                a, start, c, factor = (
                    builder.gep(pointer, [offset])
                    for pointer, offset in zip(moved, offsets, strict=True)
                )
                tile = a, a_row, a_column, b, b_row, start, start_row, c, c_row, k
                _emit_tile(builder, element, n_rows, n_columns, (*tile, code, factor, factor_row))
                return sums

            strides = [
                builder.mul(stride, _i64(n_rows))
                for stride in (a_row, start_row, c_row, factor_row)
            ]
            emit_sum(builder, count, [], strides, emit_one)

        emit_shapes(builder, rows, width, shapes, emit)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def multiply_and_sum_tile(
    typing_context, rows, width, a, a_row, a_column, b, b_row, start, start_row, c, c_row, k, sums,
    afresh,
):  # fmt: skip
    """``C := start + A @ B`` for one tile, and ``sums := the column sums of B``, or these added.

    The sums need no more loads of B. `rows` is SUM_ROWS or the second of ROW_CHOICES; `sums` is a
    pointer, and `afresh` is 1 to overwrite what is there.
    """
    element = a.dtype
    i = types.int64
    signature = types.void(i, i, a, i, i, a, i, a, i, a, i, i, a, i)

    def codegen(context, builder, signature, arguments):
        rows, width, *operands, k, sums, afresh = arguments
        shapes = [shape for shape in shapes_of(element, 2) if shape[0] <= SUM_ROWS]

        def emit(n_rows: int, n_columns: int) -> None:
            _emit_tile(builder, element, n_rows, n_columns, [*operands, k], (sums, afresh))

        emit_shapes(builder, rows, width, shapes, emit)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def multiply_dot_tile(
    typing_context, rows, columns, a, a_row, b, b_column, start, start_row, c, c_row, k, epilogue
):
    """``C := epilogue(start + A @ B)`` for one tile of `rows` x `columns`, one of DOT_SHAPES.

    The epilogue is STORE or RELU. The columns of B are contiguous, ``b_column`` elements apart; the
    rows of A are contiguous, too. Both are read, though not used, up to whole vectors.
    """
    element = a.dtype
    i = types.int64
    signature = types.void(i, i, a, i, a, i, a, i, a, i, i, i)

    def codegen(context, builder, signature, arguments):
        rows, columns, *operands = arguments

        def emit(n_rows: int, n_columns: int) -> None:
            _emit_dot_tile(builder, element, n_rows, n_columns, operands)

        emit_shapes(builder, rows, columns, DOT_SHAPES, emit)
        return context.get_dummy_value()

    return signature, codegen


def lanes_of(element: Any) -> int:
    """Return how many elements of a Numba type a vector holds."""
    return VECTOR_BYTES // _itemsize(element)


def _itemsize(element: Any) -> int:
    return int(element.bitwidth) // 8


def scalar_type(element: Any) -> Any:
    """Return the LLVM type of a Numba float32 or float64."""
    return ir.FloatType() if element == types.float32 else ir.DoubleType()


def emit_shapes(builder: Any, rows: Any, columns: Any, shapes: Any, emit: Any) -> None:
    """Emit the code of each shape, and two switches that select that of (rows, columns)."""
    done = builder.append_basic_block("tile.done")
    to_rows = builder.switch(rows, done)
    for n_rows in dict.fromkeys(n_rows for n_rows, _ in shapes):
        block = builder.append_basic_block(f"tile.{n_rows}")
        to_rows.add_case(_i64(n_rows), block)
        builder.position_at_end(block)
        to_columns = builder.switch(columns, done)
        for n_columns in (n_columns for m, n_columns in shapes if m == n_rows):
            block = builder.append_basic_block(f"tile.{n_rows}x{n_columns}")
            to_columns.add_case(_i64(n_columns), block)
            builder.position_at_end(block)
            emit(n_rows, n_columns)
            builder.branch(done)
    builder.position_at_end(done)


def vectors_of(element: Any, columns: int) -> list[tuple[int, Any]]:
    """Return the offset and LLVM type of each vector of a row; the last may be shorter."""
    longest = lanes_of(element)
    return [
        (at, ir.VectorType(scalar_type(element), min(longest, columns - at)))
        for at in range(0, columns, longest)
    ]


def load_at(builder: Any, kind: Any, element: Any, base: Any, offset: Any) -> Any:
    """Emit a load of type `kind`, a scalar or a vector, `offset` elements beyond a pointer."""
    pointer = builder.gep(base, [offset])
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = _itemsize(element)
    return value


def store_at(builder: Any, element: Any, value: Any, base: Any, offset: Any) -> None:
    """Emit a store of a scalar or a vector, `offset` elements beyond a pointer."""
    pointer = builder.bitcast(builder.gep(base, [offset]), value.type.as_pointer())
    builder.store(value, pointer).align = _itemsize(element)


def emit_sum(
    builder: Any, steps: Any, initial: list[Any], strides: list[Any], term: Any
) -> list[Any]:
    """Emit a loop of `steps` steps, with offsets that grow by `strides`; return the final sums.

    ``term(offsets, sums)`` returns the new sums, which begin as `initial`.
    """
    entry = builder.block
    body = builder.append_basic_block("tile.sum")
    end = builder.append_basic_block("tile.end")
    builder.cbranch(builder.icmp_signed(">", steps, _i64(0)), body, end)
    builder.position_at_end(body)
    step, *offsets = (builder.phi(_i64) for _ in range(1 + len(strides)))
    sums = [builder.phi(value.type) for value in initial]
    updated = term(offsets, sums)
    last = builder.block
    following_step = builder.add(step, _i64(1))
    for phi, first, following in (
        (step, _i64(0), following_step),
        *(
            (offset, _i64(0), builder.add(offset, stride))
            for offset, stride in zip(offsets, strides, strict=True)
        ),
        *zip(sums, initial, updated, strict=True),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, last)
    builder.cbranch(builder.icmp_signed("<", following_step, steps), body, end)
    builder.position_at_end(end)
    return join(builder, [(initial, entry), (updated, last)])


def join(builder: Any, sources: list[tuple[list[Any], Any]]) -> list[Any]:
    """Emit phi nodes that choose among lists of values by the block that control comes from."""
    joined = []
    for values in zip(*(values for values, _ in sources), strict=True):
        phi = builder.phi(values[0].type)
        for value, (_, block) in zip(values, sources, strict=True):
            phi.add_incoming(value, block)
        joined.append(phi)
    return joined


def emit_choice(builder: Any, condition: Any, yes: Any, no: Any) -> list[Any]:
    """Emit a branch to `yes` or `no`, and the choice between the values that they return."""
    blocks = [builder.append_basic_block(f"choice.{name}") for name in ("yes", "no", "chosen")]
    builder.cbranch(condition, blocks[0], blocks[1])
    results = []
    for block, function in zip(blocks[:2], (yes, no), strict=True):
        builder.position_at_end(block)
        results.append((function(), builder.block))
        builder.branch(blocks[2])
    builder.position_at_end(blocks[2])
    return join(builder, results)


def finish(
    builder: Any, element: Any, epilogue: Any, places: Any, c: Any, factor: Any = None
) -> None:
    """Emit the epilogue of values, and their stores.

    `places` are (value, offset in C, offset of its factor); `c` and `factor` are pointers. Without
    a factor, the epilogue is STORE or RELU.
    """
    lowest = builder.select(
        builder.icmp_signed("==", epilogue, _i64(RELU)),
        zero_of(scalar_type(element)),
        ir.Constant(scalar_type(element), -np.inf),
    )

    def bound(x: Any, at: Any) -> Any:  # RELU or STORE, which share their code
        least = broadcast(builder, lowest, x.type) if isinstance(x.type, ir.VectorType) else lowest
        return builder.select(builder.fcmp_ordered("<", x, least), least, x)  # a NaN stays NaN

    def mask(x: Any, at: Any) -> Any:
        zero, other = zero_of(x.type), load_at(builder, x.type, element, factor, at)
        return builder.select(builder.fcmp_ordered("==", other, zero), zero, x)

    def scale(x: Any, at: Any) -> Any:
        return builder.fmul(x, load_at(builder, x.type, element, factor, at))

    stored = builder.append_basic_block("tile.stored")
    others = builder.append_basic_block("tile.bound")
    functions = [(others, bound)]
    switch = builder.switch(epilogue, others)
    if factor:
        for code, function in ((MASK, mask), (SCALE, scale)):
            block = builder.append_basic_block(f"tile.epilogue{code}")
            switch.add_case(_i64(code), block)
            functions.append((block, function))
    for block, function in functions:
        builder.position_at_end(block)
        for value, c_at, factor_at in places:
            store_at(builder, element, function(value, factor_at), c, c_at)
        builder.branch(stored)
    builder.position_at_end(stored)


def _emit_tile(
    builder: Any, element: Any, rows: int, columns: int, operands: Any, summing: Any = None
) -> None:
    a, a_row, a_column, b, b_row, start, start_row, c, c_row, k, *epilogue = operands
    scalar, load = scalar_type(element), partial(load_at, builder)
    vectors = vectors_of(element, columns)
    places = [(r, at, kind) for r in range(rows) for at, kind in vectors]

    def offset(stride: Any, r: int, at: int) -> Any:
        return builder.add(builder.mul(stride, _i64(r)), _i64(at))

    a_rows = [builder.gep(a, [builder.mul(a_row, _i64(r))]) for r in range(rows)]

    def add_outer_product(offsets: Any, sums: Any) -> Any:
        at_a, at_b = offsets
        b_vectors = [load(kind, element, b, builder.add(at_b, _i64(at))) for at, kind in vectors]
        updated = []
        for number, total in enumerate(sums[: len(places)]):
            (r, _, kind), v = places[number], number % len(vectors)
            if v == 0:
                whole = broadcast(builder, load(scalar, element, a_rows[r], at_a), kind)
            x = whole if kind == whole.type else first_of(builder, whole, kind)
            updated.append(multiply_add(builder, x, b_vectors[v], total))
        for x, total in zip(b_vectors, sums[len(places) :], strict=False):
            updated.append(builder.fadd(x, total))
        return updated

    initial = [zero_of(kind) for _, _, kind in places]
    if summing:
        initial += [zero_of(kind) for _, kind in vectors]
    totals = emit_sum(builder, k, initial, [a_column, b_row], add_outer_product)
    if summing:
        sums, afresh = summing
        for (at, kind), total in zip(vectors, totals[len(places) :], strict=True):
            before = load_unless(builder, afresh, kind, element, sums, _i64(at))
            store_at(builder, element, builder.fadd(before, total), sums, _i64(at))
    results = []
    for (r, at, kind), total in zip(places, totals, strict=False):
        first = load(kind, element, start, offset(start_row, r, at))
        results.append((r, at, builder.fadd(first, total)))
    if not epilogue:
        for r, at, result in results:
            store_at(builder, element, result, c, offset(c_row, r, at))
        return
    code, factor, factor_row = epilogue
    finished = [
        (result, offset(c_row, r, at), offset(factor_row, r, at)) for r, at, result in results
    ]
    finish(builder, element, code, finished, c, factor)


def load_unless(builder: Any, afresh: Any, kind: Any, element: Any, base: Any, offset: Any) -> Any:
    """Emit a load, or zeros if `afresh` is 1."""
    value = load_at(builder, kind, element, base, offset)
    return builder.select(builder.trunc(afresh, ir.IntType(1)), zero_of(kind), value)


def _emit_dot_tile(builder: Any, element: Any, rows: int, columns: int, operands: Any) -> None:
    a, a_row, b, b_column, start, start_row, c, c_row, k, epilogue = operands
    length = lanes_of(element)
    vector = ir.VectorType(scalar_type(element), length)
    load = partial(load_at, builder, vector, element)
    zero = zero_of(vector)
    places = [(r, j) for r in range(rows) for j in range(columns)]
    a_rows = [builder.gep(a, [builder.mul(a_row, _i64(r))]) for r in range(rows)]
    b_columns = [builder.gep(b, [builder.mul(b_column, _i64(j))]) for j in range(columns)]

    def add_products(a_vectors: Any, b_vectors: Any, sums: Any) -> Any:
        return [
            multiply_add(builder, a_vectors[r], b_vectors[j], total)
            for (r, j), total in zip(places, sums, strict=True)
        ]

    def add_whole_vectors(offsets: Any, sums: Any) -> Any:
        a_vectors = [load(row, offsets[0]) for row in a_rows]
        return add_products(a_vectors, [load(column, offsets[0]) for column in b_columns], sums)

    n_vectors = builder.sdiv(k, _i64(length))
    sums = emit_sum(builder, n_vectors, [zero] * len(places), [_i64(length)], add_whole_vectors)

    # The last vector, of which only some elements count.
    at = builder.mul(n_vectors, _i64(length))
    lanes = ir.Constant(ir.VectorType(_i64, length), list(range(length)))
    counts = builder.icmp_signed("<", lanes, broadcast(builder, builder.sub(k, at), lanes.type))

    def load_rest(base: Any) -> Any:
        return builder.select(counts, load(base, at), zero)

    before = builder.block
    rest = builder.append_basic_block("dot.rest")
    end = builder.append_basic_block("dot.end")
    builder.cbranch(builder.icmp_signed("<", at, k), rest, end)
    builder.position_at_end(rest)
    updated = add_products(
        [load_rest(row) for row in a_rows], [load_rest(column) for column in b_columns], sums
    )
    builder.branch(end)
    builder.position_at_end(end)
    totals = join(builder, [(sums, before), (updated, rest)])
    # The sums of a row take a power of two of places, so that they come side by side in a vector.
    places_of_row = 1 << (columns - 1).bit_length()
    by_rows = [totals[i : i + columns] for i in range(0, len(totals), columns)]
    added = _add_up(
        builder, [row[min(j, columns - 1)] for row in by_rows for j in range(places_of_row)]
    )
    finished = []
    for r in range(rows):
        number, lane = divmod(r * places_of_row, length)
        total = _elements(builder, added[number], lane, columns)
        first = load_at(builder, total.type, element, start, builder.mul(start_row, _i64(r)))
        finished.append((builder.fadd(first, total), builder.mul(c_row, _i64(r)), None))
    finish(builder, element, epilogue, finished, c)


def _elements(builder: Any, vector: Any, first: int, count: int) -> Any:
    """Emit `count` elements of a vector, from `first` on, as a vector; a single one as a scalar."""
    if count == 1:
        return builder.extract_element(vector, ir.IntType(32)(first))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(first, first + count)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), lanes)


def _add_up(builder: Any, vectors: list[Any]) -> list[Any]:
    """Emit vectors that hold, one after the other, the sum of the elements of each given vector.

    Two vectors become one, of sums of neighbours in both, and so on: first within parts of 128
    bits, then across these, so that a shuffle is one instruction. The elements of a vector are
    added up in the same order for any number of vectors.
    """
    count = vectors[0].type.count
    within = 2 if isinstance(vectors[0].type.element, ir.DoubleType) else 4
    for size, stride in ((within, 1), (count // within, within)):
        for _ in range(size.bit_length() - 1):
            pairs = [vectors[i : i + 2] for i in range(0, len(vectors), 2)]
            vectors = [_add_neighbours(builder, pair[0], pair[-1], size, stride) for pair in pairs]
    return vectors


def _add_neighbours(builder: Any, a: Any, b: Any, size: int, stride: int) -> Any:
    """Emit sums of neighbours `stride` elements apart; a's come first among each `size` of them."""
    count, half = a.type.count, size // 2

    def choose(odd: int) -> Any:
        order = []
        for lane in range(count):
            item = lane // stride % size
            source = lane + (2 * (item % half) + odd - item) * stride
            order.append(source + (count if item >= half else 0))
        return builder.shuffle_vector(
            a, b, ir.Constant(ir.VectorType(ir.IntType(32), count), order)
        )

    return builder.fadd(choose(0), choose(1))


def kept_in_register(builder: Any, pointer: Any) -> Any:
    """Emit a pointer unchanged, on Intel's in a register of its own.

    Otherwise LLVM makes each load from there add up the parts of the address, and Intel's split an
    instruction that also computes into two.
    """
    if not IS_INTEL_512:
        return pointer
    as_it_is = ir.FunctionType(pointer.type, [pointer.type])
    return builder.call(ir.InlineAsm(as_it_is, "", "=r,0"), [pointer])


def zero_of(kind: Any) -> Any:
    """Return 0 as an LLVM constant, a scalar or a vector."""
    return ir.Constant(kind, [0.0] * kind.count if isinstance(kind, ir.VectorType) else 0.0)


def first_of(builder: Any, vector: Any, kind: Any) -> Any:
    """Emit the first elements of a vector, as many as the shorter vector type `kind` has."""
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), list(range(kind.count)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), lanes)


def broadcast(builder: Any, value: Any, vector: Any) -> Any:
    """Emit a vector whose elements all equal a value."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, lanes)


def multiply_add(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Emit ``x * y + z``, rounded once where the processor can."""
    vector = x.type
    if not HAS_FMA:
        return builder.fadd(builder.fmul(x, y), z)
    suffix = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    name = f"llvm.fma.v{vector.count}{suffix}"
    function_type = ir.FunctionType(vector, [vector] * 3)
    fma = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(fma, [x, y, z])
