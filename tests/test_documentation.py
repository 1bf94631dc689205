"""Docstrings against signatures, their examples, and the README."""

import ast
import doctest
import inspect
import pickle
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from sklearn import model_selection as stock

import fastbp
from fastbp import model_selection
from fastbp.estimators import classifier, regressor

ROOT = Path(__file__).parents[1]
ESTIMATORS = [fastbp.BPClassifier, fastbp.BPRegressor]


def section(docstring, title):
    """Return the names described in a section of a numpydoc docstring."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", docstring, re.S | re.M)
    return re.findall(r"^(\w+) ?:", found.group(1), re.M) if found else []


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_parameter_is_described_in_order_of_use(estimator):
    described = section(inspect.getdoc(estimator), "Parameters")
    assert sorted(described) == sorted(inspect.signature(estimator).parameters)
    assert described[:3] == list(inspect.signature(estimator).parameters)[:3]


@pytest.mark.parametrize("name", model_selection.__all__)
def test_searches_say_what_differs(name):
    search = getattr(model_selection, name)
    assert pickle.loads(pickle.dumps(search)) is search
    text = inspect.getdoc(search)
    assert "side by side" in text
    assert "``None`` means all processors" in text
    assert "``None`` means 1" not in text
    assert ("cv_results_" in text.split("Parameters")[0]) == inspect.isclass(search)
    if inspect.isclass(search):
        assert inspect.getdoc(search.fit) == inspect.getdoc(stock.GridSearchCV.fit)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_attribute_is_described(estimator):
    model = estimator(hidden_layer_sizes=(2,), max_iter=500, tol=1.0)
    model.fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    public = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert public <= set(section(inspect.getdoc(estimator), "Attributes"))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_public_method_is_documented(estimator):
    for name in ("fit", "partial_fit", "predict"):
        method = inspect.unwrap(inspect.getattr_static(estimator, name).fn
                                if name == "partial_fit" else getattr(estimator, name))  # fmt: skip
        parameters = [p for p in inspect.signature(method).parameters if p != "self"]
        assert section(inspect.getdoc(method), "Parameters") == parameters


@pytest.mark.parametrize("module", [classifier, regressor])
def test_examples_in_docstrings(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def imported(path):
    """Yield the top-level modules and packages of fastbp that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastbp"):
            _, *parts = (node.module if "." in node.module else "fastbp.__init__").split(".")
            yield from [alias.name for alias in node.names] if parts == ["__init__"] else parts[:1]


def test_imports_run_downward_in_the_table_of_rooms():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*`) \|", table, re.M)
    row_of = {
        Path(name).stem: number
        for number, row in enumerate(rows)
        for name in re.findall(r"`([^`]*)`", row)
    }
    package = ROOT / "fastbp"
    files = [path for path in package.rglob("*.py") if path.name != "__init__.py"]
    assert len(files) > 90
    for path in files:
        room = path.stem if path.parent == package else path.relative_to(package).parts[0]
        for other in imported(path):
            if other != "__version__" and other[0].islower():
                assert row_of[room] <= row_of[other], (path.name, other)


def test_the_readme_names_commands_that_are_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m fastbp" in readme
    test_command = re.search(r"^(\S.*python -m pytest.*)$", readme, re.M).group(1)
    assert "README.md" in ci
    assert test_command.startswith('python -m pip install -e ".[test]"')


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_readmes_code_runs(tmp_path, monkeypatch):
    """Run the blocks one after another, except Ray's, which starts processes to shut down."""
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
    known, n_run = {}, 0
    for block in blocks:
        needs_torch = "to_torch" in block
        if "ray.init" in block or (needs_torch and find_spec("torch") is None):
            continue
        exec(block, known)
        n_run += 1
    assert n_run >= len(blocks) - 2
    assert known["search"].best_params_["bpclassifier__alpha"] in (1e-4, 1e-2)
    assert (tmp_path / "run.fastbp").exists()


def test_everything_public_has_a_docstring():
    for name in fastbp.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(fastbp, name))


def test_version_is_the_packages():
    assert f'version = "{fastbp.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {fastbp.__version__}" in (ROOT / "CHANGELOG.md").read_text()
