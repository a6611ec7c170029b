"""torch's own machinery on the operators: opcheck, compile, export, fake tensors, the door."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from itk_ncr import ops
from itk_ncr.errors import ArgumentError, ShapeError
from itk_ncr.ops.extension import kernels


def test_every_registered_operator_passes_opcheck(smooth_field):
    u = smooth_field((6, 7, 9), 2.0, batch=2)
    x, one = torch.rand(2, 2, 6, 7, 9), torch.rand(2, 1, 6, 7, 9)
    m = torch.ops.itk_ncr
    counts = torch.tensor([2, 3])

    def wants(t):
        return t.clone().requires_grad_()

    displacement, fields = m.exponential(u, counts, 3, 1, 1.0)
    calls = {
        m.exponential: [(wants(u), None, 3, 1, 1.0), (wants(u), counts, 3, 2, -1.0),
                        (wants(u), None, -1, 0, 1.0)],
        m.exponential_adjoint: [(u, u, fields, counts, 3, 1, 1.0)],
        m.warp: [(wants(x), wants(u), None, False, 0.0), (wants(u), wants(u), wants(u), True, 1.0)],
        m.warp_adjoint: [(x, x, u, False, True, True), (x, x, u, True, True, False)],
        m.warp_nearest: [(wants(x), u, True, 0.0)],
        m.warp_nearest_adjoint: [(x, u, [6, 7, 9], False)],
        m.jacobian: [(wants(u),)],
        m.jacobian_adjoint: [(one, u)],
        m.box_sum: [(wants(x), 2)],
        m.resize: [(wants(x), [5, 9, 11])],
        m.resize_adjoint: [(x, [5, 9, 11])],
        m.total_variation_denoise: [(x, 0.1, 3, None)],
    }  # fmt: skip
    assert displacement.shape == u.shape
    for operator, examples in calls.items():
        for example in examples:
            torch.library.opcheck(operator.default, example)


def objective(image, velocity, fixed):
    u = ops.exponential(velocity)
    v = ops.resize(ops.exponential(velocity, 3), fixed.shape[2:])
    distance = (ops.warp(image, u) - fixed).square().mean() + ops.warp(image, v).square().mean()
    return distance + ops.jacobian_determinant(u).square().mean() + ops.box_sum(u, 1).mean()


@pytest.mark.slow  # a minute in torch's compiler
def test_compiled_graphs_have_values_and_gradients_of_eager_calls(smooth_field):
    image, fixed = torch.rand(1, 1, 8, 9, 10), torch.rand(1, 1, 8, 9, 10)
    v = smooth_field((8, 9, 10), 2.0).requires_grad_()
    expected = objective(image, v, fixed)
    (gradient,) = torch.autograd.grad(expected, v)
    compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
    found = compiled(image, v, fixed)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, v)[0], gradient)


class Mover(torch.nn.Module):
    def forward(self, image, velocity):
        return ops.warp(image, ops.exponential(velocity))


def energy(image, velocity, fixed):
    u = ops.exponential(velocity)
    return (
        objective(image, velocity, fixed)
        + (ops.box_sum(ops.warp(image, u, padding="fill"), 1) * fixed)
        .sum(dim=tuple(range(1, fixed.ndim)))
        .mean()
    )


def test_transforms_of_torch_func_agree_with_autograd(smooth_field):
    from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

    image, fixed = torch.rand(3, 1, 5, 6).double(), torch.rand(3, 1, 5, 6).double()
    # Samples that need 0, 3 and 7 squarings.
    v = smooth_field((5, 6), 1.0, batch=3).double() * torch.tensor([0.1, 1, 12]).view(3, 1, 1, 1)

    def of_one(*sample):
        return energy(*(t[None] for t in sample))

    leaf = v.clone().requires_grad_()
    values = torch.stack([of_one(image[n], leaf[n], fixed[n]) for n in range(3)])
    (expected,) = torch.autograd.grad(values.sum(), leaf)
    torch.testing.assert_close(vmap(of_one)(image, v, fixed), values.detach())
    found = vmap(grad(of_one, argnums=1))(image, v, fixed)
    torch.testing.assert_close(found, expected)
    slope = jvp(lambda t: of_one(image[1], t, fixed[1]), (v[1],), (v[2],))[1]
    torch.testing.assert_close(slope, (expected[1] * v[2]).sum())
    matrix = torch.autograd.functional.jacobian(ops.jacobian_determinant, v[:1])
    for transform in (jacrev, jacfwd):
        torch.testing.assert_close(transform(ops.jacobian_determinant)(v[:1]), matrix)
    bends = hessian(lambda t: ops.jacobian_determinant(t).sum())(v[:1]).reshape(60, 60)
    assert bends.abs().max() > 0.1
    torch.testing.assert_close(bends, bends.T)


def test_tangents_of_forward_mode_are_not_lost(smooth_field):
    import torch.autograd.forward_ad as forward

    u, image = smooth_field((5, 6), 1.0).double(), torch.rand(1, 1, 5, 6).double()
    direction, step = torch.rand_like(u), 1e-6
    for call in (ops.jacobian_determinant, lambda t: ops.warp(image, t)):
        with forward.dual_level():
            found = forward.unpack_dual(call(forward.make_dual(u, direction))).tangent
        ahead, behind = call(u + step * direction), call(u - step * direction)
        torch.testing.assert_close(found, (ahead - behind) / (2 * step), atol=1e-6, rtol=1e-6)


def test_shapes_are_known_without_values():
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert ops.exponential(FIELD.to("meta")).shape == FIELD.shape
    assert ops.warp(IMAGE.to("meta"), FIELD.to("meta")).shape == IMAGE.shape
    with FakeTensorMode():
        assert ops.exponential(torch.empty(2, 2, 5, 6)).shape == (2, 2, 5, 6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_traced_module_computes_and_remembers_nothing(smooth_field):
    v = smooth_field((5, 6), 1.0, batch=2)
    images = torch.rand(2, 1, 5, 6)
    traced = torch.jit.trace(Mover(), (images[:1], v[:1]))
    torch.testing.assert_close(traced(images[1:], v[1:]), Mover()(images[1:], v[1:]))


def test_exported_programs_take_other_batch_sizes(smooth_field):
    image, v = torch.rand(2, 1, 8, 9, 10), smooth_field((8, 9, 10), 2.0, batch=2)
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(Mover(), (image, v), dynamic_shapes=({0: batch}, {0: batch}))
    image, v = torch.rand(5, 1, 8, 9, 10), smooth_field((8, 9, 10), 2.0, batch=5)
    torch.testing.assert_close(program.module()(image, v), Mover()(image, v))


def test_no_tensor_outlives_its_graph(smooth_field):
    import gc
    import weakref

    v = smooth_field((8, 9, 10), 2.0).requires_grad_()
    gc.disable()
    try:
        result = ops.exponential(v)
        result.sum().backward()
        alive = weakref.ref(result)
        del result
        assert alive() is None
    finally:
        gc.enable()


FIELD, IMAGE = torch.zeros(1, 3, 4, 5, 6), torch.zeros(1, 1, 4, 5, 6)
WRONG = {
    "no batch axis": (ShapeError, lambda: ops.exponential(FIELD[0])),
    "two components in 3D": (ShapeError, lambda: ops.exponential(FIELD[:, :2])),
    "an empty axis": (ShapeError, lambda: ops.box_sum(torch.zeros(1, 1, 0, 5), 1)),
    "integers": (ArgumentError, lambda: ops.exponential(FIELD.int())),
    "a sparse tensor": (ArgumentError, lambda: ops.exponential(FIELD.to_sparse())),
    "labels of 64 bits": (ArgumentError, lambda: ops.warp(IMAGE.long(), FIELD, mode="nearest")),
    "a fill value beyond the labels": (
        ArgumentError,
        lambda: ops.warp(IMAGE.byte(), FIELD, mode="nearest", padding="fill", fill_value=300),
    ),
    "labels filled with NaN": (
        ArgumentError,
        lambda: ops.warp(
            IMAGE.byte(), FIELD, mode="nearest", padding="fill", fill_value=float("nan")
        ),
    ),
    "no fill value": (
        ArgumentError,
        lambda: ops.warp(IMAGE, FIELD, padding="fill", fill_value=None),
    ),
    "half precision": (ArgumentError, lambda: ops.warp(IMAGE.half(), FIELD)),
    "no tensor": (ArgumentError, lambda: ops.box_sum([[1.0]], 1)),
    "another batch size": (ShapeError, lambda: ops.warp(IMAGE, FIELD.expand(2, 3, 4, 5, 6))),
    "2D and 3D": (ShapeError, lambda: ops.warp(IMAGE[:, :, 0], FIELD)),
    "two dtypes": (ArgumentError, lambda: ops.warp(IMAGE.double(), FIELD)),
    "two devices": (ArgumentError, lambda: ops.warp(IMAGE.to("meta"), FIELD)),
    "an unknown mode": (ArgumentError, lambda: ops.warp(IMAGE, FIELD, mode="cubic")),
    "an unknown padding": (ArgumentError, lambda: ops.warp(IMAGE, FIELD, padding="zeros")),
    "integers interpolated": (ArgumentError, lambda: ops.warp(IMAGE.int(), FIELD)),
    "too many squarings": (ArgumentError, lambda: ops.exponential(FIELD, 21)),
    "half a squaring": (ArgumentError, lambda: ops.exponential(FIELD, 2.5)),
    "a negative radius": (ArgumentError, lambda: ops.box_sum(IMAGE, -1)),
    "grids that differ": (ShapeError, lambda: ops.compose(FIELD, FIELD[..., :5])),
    "one size too few": (ShapeError, lambda: ops.resize(IMAGE, (4, 5))),
    "half a voxel": (ArgumentError, lambda: ops.resize(IMAGE, (4, 5, 5.5))),
    "one size for all": (ArgumentError, lambda: ops.resize(IMAGE, 5)),
    "a size of zero": (ShapeError, lambda: ops.resize(IMAGE, (4, 5, 0))),
    "a negative price": (ArgumentError, lambda: ops.total_variation_denoise(IMAGE, -1.0, 5)),
    "a dual elsewhere": (
        ShapeError,
        lambda: ops.total_variation_denoise(IMAGE, 1.0, 5, FIELD[..., :5]),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_door_names_what_is_wrong(case):
    kind, call = WRONG[case]
    with pytest.raises(kind, match=r" must .*; got .*\. [A-Z]") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_without_the_compiled_module_the_twins_run_and_say_so_once():
    script = (
        "import sys, warnings; sys.modules['itk_ncr._kernels'] = None\n"
        "import torch; from itk_ncr import ops\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(2):\n"
        "        v = torch.full((1, 2, 5, 6), 0.3, requires_grad=True)\n"
        "        ops.exponential(v).sum().backward(); ops.box_sum(v, 1)\n"
        "assert not ops.build_info()['compiled']\n"
        "print(len(seen), seen[0].category.__name__, seen[0].message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 RuntimeWarning itk_ncr runs without its compiled kernels")


def test_the_build_says_what_it_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = ops.build_info()
    assert info["compiled"] is True
    assert info["simd"] in ("scalar", "baseline", "avx2", "avx512")
    assert info["threads"] == torch.get_num_threads()


def test_kept_memory_goes_back_when_asked(smooth_field):
    module = kernels()
    v = smooth_field((64, 64, 64), 3.0)
    ops.exponential(v, 3)
    # Two spare fields and the result, of 3 MiB each.
    assert module.kept_memory() >= 9 * 2**20
    ops.release_memory()
    assert module.kept_memory() == 0


def test_hundreds_of_calls_keep_no_more_memory_than_a_few(smooth_field):
    module = kernels()
    v = smooth_field((20, 24, 28), 3.0).requires_grad_()
    kept = []
    for number in range(300):
        ops.exponential(v).sum().backward()
        v.grad = None
        if number in (20, 299):
            kept.append(module.kept_memory())
    assert kept[1] <= kept[0]


def test_the_operators_do_not_import_the_compiler_of_torch():
    check = "import sys, itk_ncr.ops, itk_ncr.networks; assert 'torch._dynamo' not in sys.modules"
    network = "from itk_ncr.checkpoints import load_model; load_model('brain-t1-2d')"
    again = "assert 'torch._dynamo' not in sys.modules"
    words = [sys.executable, "-c", "; ".join((check, network, again))]
    subprocess.run(words, check=True, timeout=120)
