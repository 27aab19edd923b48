"""Files of Kubernetes objects: what is read, in which order, and what is refused with its place."""

import io
from pathlib import Path

import pytest

from meshdemo.lab.files.errors import ManifestError, SeveralError, suggestion
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.files.sources import STDIN, files_of

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {}\n"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file and gives its path."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def load(*paths):
    manifests, notes = Loader(paths).load()
    return manifests, notes


def refusal(*paths):
    with pytest.raises(ManifestError) as caught:
        load(*paths)
    return str(caught.value)


def test_an_object(write):
    """An object has its file, line, group, version, kind, name and document."""
    path = write("a.yaml", "# comment\n---\n" + SERVICE % "web")
    (manifest,), notes = load(path)
    assert (manifest.path, manifest.line, manifest.group, manifest.version) == (path, 3, "", "v1")
    assert manifest.label == "Service/web"
    assert manifest.place == f"{path}: Service/web"
    assert notes == []


@pytest.mark.parametrize("written", ["", "spec:", "spec: text", "spec: [1]", "spec: {}"])
def test_a_spec_that_is_none(write, written):
    """What reads the fields of a spec finds none where it is no object."""
    (manifest,), _ = load(write("a.yaml", f"apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n{written}\n"))
    assert manifest.spec == {}


def test_a_list(write):
    """The items of a List are objects."""
    path = write(
        "a.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n"
    )
    assert [each.name for each in load(path)[0]] == ["a"]


def test_folders(write, tmp_path):
    """Of a folder its YAML and JSON files count, in order, and no others."""
    for name in ("b.yaml", "a.yml", "c.json", "readme.md"):
        write(name, "")
    (tmp_path / "d.yaml").mkdir()
    assert [path.name for path in files_of([tmp_path])] == ["a.yml", "b.yaml", "c.json"]


def test_the_later_one_counts(write):
    """Objects of one name replace each other, and both files are named."""
    first, second = write("a.yaml", SERVICE % "web"), write("b.yaml", SERVICE % "web" + "x: {}\n")
    manifests, notes = load(first, second)
    assert [each.path for each in manifests] == [second]
    assert notes == [f"{first}: Service/web: replaced by the one in {second}"]
    assert load(first, write("c.yaml", SERVICE % "web"))[1] == []


def test_a_file_that_stays_as_it_is(write):
    """What a file held the last time is parsed again only where it holds something else now."""
    path = write("a.yaml", SERVICE % "web")
    ((first,), _), ((again,), _) = load(path), load(path)
    assert again is first
    write("a.yaml", SERVICE % "other")
    assert [each.name for each in load(path)[0]] == ["other"]
    write("a.yaml", "a: [")
    assert "not YAML" in refusal(path)
    assert "not YAML" in refusal(path)


def test_standard_input(monkeypatch):
    """Standard input is read once, and remembered."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((SERVICE % "web").encode())))
    loader = Loader([STDIN])
    for _ in range(2):
        (manifest,), _ = loader.load()
        assert manifest.place == "standard input: Service/web"


def test_standard_input_that_is_closed(monkeypatch):
    """Without standard input that is said."""
    monkeypatch.setattr("sys.stdin", None)
    assert refusal(STDIN) == "standard input: is closed"


def test_files_that_cannot_be_read(write, tmp_path):
    """A file that is missing, a device, and what is not UTF-8 are named."""
    assert refusal(tmp_path / "none.yaml").endswith("none.yaml: does not exist")
    assert refusal(Path("/dev/null")).endswith("/dev/null: is not a file")
    write("a.yaml", "").write_bytes(b"\xff")
    assert "not encoded in UTF-8" in refusal(tmp_path / "a.yaml")
    write("a.yaml", "").write_bytes(b"\xef\xbb\xbf" + (SERVICE % "web").encode())
    assert len(load(tmp_path / "a.yaml")[0]) == 1


def test_large_files(write):
    """A file of more than 8 MiB is none of ours."""
    assert refusal(write("a.yaml", "#" * (8 * 1024**2 + 1))).endswith("a.yaml: holds more than 8 MiB")


def test_versions(write):
    """Each kind is known in the versions that its API serves, and others are refused with these."""
    text = "apiVersion: networking.istio.io/%s\nkind: VirtualService\nmetadata: {name: a}\n"
    for version in ("v1", "v1beta1", "v1alpha3"):
        assert load(write("a.yaml", text % version))[0][0].version == version
    assert "is not served, only networking.istio.io/v1, " in refusal(write("a.yaml", text % "v2"))


@pytest.mark.parametrize(
    ("api_version", "kind", "metadata", "label"),
    [
        ("example.com/v1", "Widget", "{name: a}", "Widget/a"),
        ("example.com/v1", "Widget", "{name: A/b, namespace: '..'}", "Widget/widget"),
        ("example.com/v1", "Widget", "[]", "Widget/widget"),
        ("serving.knative.dev/v1", "Service", "{name: a}", "Service/a"),
        ("appmesh.k8s.aws/v1beta2", "VirtualService", "{name: a}", "VirtualService/a"),
    ],
)
def test_foreign_kinds(write, api_version, kind, metadata, label):
    """A kind of an API that is not known here is an object like any other, whatever its name."""
    text = f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {metadata}\n"
    assert load(write("a.yaml", text))[0][0].label == label


@pytest.mark.parametrize("api_version", ["v1", "app/v1", "networking.istio.oi/v1", "security.istio.io/v1"])
def test_kinds_of_other_apis(write, api_version):
    """A kind of the wrong API is refused, also where the API has a name that is nearly the right one."""
    text = f"apiVersion: {api_version}\nkind: VirtualService\nmetadata: {{name: a}}\n"
    assert f"'{api_version}' has no VirtualService, which is of networking" in refusal(write("a.yaml", text))


def test_the_namespace_of_what_names_none(write):
    """An object that names no namespace is in that of the loader, one that is of no namespace is not."""
    head = "apiVersion: v1\nkind: "
    paths = [
        write("a.yaml", head + "Service\nmetadata: {name: a}\n---\n" + head + "Namespace\nmetadata: {name: shop}\n"),
        write("b.yaml", head + "Service\nmetadata: {name: a, namespace: other}\n"),
    ]
    manifests, _ = Loader(paths, namespace="shop").load()
    assert [(each.label, each.namespace) for each in manifests] == [
        ("Service/a.shop", "shop"),
        ("Namespace/shop", "default"),
        ("Service/a.other", "other"),
    ]
    assert manifests[0].document["metadata"]["namespace"] == "shop"


def test_the_namespace(write):
    """The namespace `default` may be named."""
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: default}\n"
    assert load(write("a.yaml", text))[0][0].name == "a"


@pytest.mark.parametrize("name", ["-a", "a-", "A", "a_b", "a/b", "..", "a..b", "", "a" * 254, "a\0"])
def test_names(write, name):
    """Names are those of RFC 1123, so that none leads anywhere as part of a path."""
    text = f'{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": {name!a}}}}}'.replace("'", '"')
    assert "metadata.name" in refusal(write("a.yaml", text)) or "not YAML" in refusal(write("a.yaml", text))


def test_suggestion():
    """A word that is nearly right is suggested, whatever its case."""
    assert suggestion("wieght", ["weight", "host"]) == ", did you mean weight?"
    assert suggestion("LEAST_CON", ["LEAST_CONN"]) == ", did you mean LEAST_CONN?"
    assert suggestion("x", ["weight"]) == ""


LIST = """apiVersion: networking.istio.io/v1
kind: VirtualServiceList
items: [{metadata: {name: a}}, {apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: b}}]
"""


def test_lists_of_one_kind(write):
    """A list of one kind holds objects that need not say which kind they are of."""
    found = load(write("a.yaml", LIST))[0]
    assert [(each.label, each.group, each.version) for each in found] == [
        ("VirtualService/a", "networking.istio.io", "v1"),
        ("VirtualService/b", "networking.istio.io", "v1"),
    ]
    assert refusal(write("a.yaml", "apiVersion: v1\nkind: ServiceList\nitems: 5")).endswith(
        "ServiceList: items: 5 is not a list"
    )


@pytest.mark.parametrize(
    ("place", "problem", "words"),
    [
        ("spec.http[0].timeout", "is odd", "line 6, column 7: VirtualService/a: spec.http[0].timeout: is odd"),
        (
            "",
            "spec.http[0].timeout: Invalid value",
            "line 6, column 7: VirtualService/a: spec.http[0].timeout: Invalid value",
        ),
        ("", "is odd", "line 1, column 1: VirtualService/a: is odd"),
    ],
)
def test_positions(write, place, problem, words):
    """An error about a field is told where it stands, whichever engine names it."""
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n"
    text = head + "spec:\n  http:\n    - timeout: 5\n"
    loader = Loader([write("a.yaml", text)])
    ((manifest,), _) = loader.load()
    error = ManifestError(f"{manifest.place}: {place}" if place else manifest.place, problem)
    loader.locate(error)
    assert str(error) == f"{manifest.path}, {words}"
    assert error.file == str(manifest.path)


def test_no_position(write):
    """An error about something else stays as it is."""
    loader = Loader([write("a.yaml", SERVICE % "a")])
    loader.load()
    error = ManifestError("elsewhere.yaml: Service/a: spec", "is odd")
    loader.locate(error)
    assert (str(error), error.line) == ("elsewhere.yaml: Service/a: spec: is odd", None)


def test_a_file_that_is_named(write):
    """A file that is given by its name is a manifest, whatever it holds."""
    with pytest.raises(ManifestError, match="kind: is missing"):
        load(write("Chart.yaml", "apiVersion: v2\nname: chart\n"))


def test_many_errors_alike():
    """Of many errors with one reason and one hint the first are told with their places, the others counted."""
    errors = [ManifestError(f"a.yaml: Service/a{number}", "is none", "do this") for number in range(5)]
    several = SeveralError([*errors, ManifestError("b.yaml", "is odd", "do this")])
    places = [f"a.yaml: Service/a{number}: is none" for number in range(3)]
    assert str(several).splitlines() == [*places, "b.yaml: is odd", "and 2 more: is none", "for each of these: do this"]
    plain = SeveralError([ManifestError("a.yaml", "is none")] * 5)
    assert str(plain).splitlines() == ["a.yaml: is none"] * 5


def test_many_replaced(write):
    """Of many objects that later files replace only the first are named."""
    text = "---\n".join(SERVICE % f"web{number}" for number in range(8))
    _, notes = load(write("a.yaml", text), write("b.yaml", text.replace("spec: {}", "spec: {type: NodePort}")))
    assert len(notes) == 6
    assert notes[-1] == "3 more objects are replaced by those of later files"


def test_all_problems_at_once(write, tmp_path):
    """What is wrong in several files, documents and items is said in one go, a line each; or left out and told."""
    good, bad = SERVICE % "web", SERVICE % "A"
    paths = [
        write("a.yaml", f"{bad}---\n{good}---\nkind: x\n"),
        write("b.yaml", "a: [\n"),
        write("c.yaml", "apiVersion: v1\nkind: List\nitems: [{kind: Service}, {apiVersion: v1, kind: Service}]\n"),
        tmp_path / "none.yaml",
    ]
    with pytest.raises(ManifestError) as error:
        load(*paths)
    lines = str(error.value).splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in lines] == [
        "a.yaml, line 1",
        "a.yaml, line 11",
        "b.yaml, line 2",
        "c.yaml, line 1",
        "c.yaml, line 1",
        "none.yaml",
    ]
    manifests, notes = Loader(paths, skip_invalid=True).load()
    assert [each.label for each in manifests] == ["Service/web"]
    assert notes == [f"left out: {line}" for line in lines]


def test_what_a_cluster_adds(write):
    """An object that comes out of a cluster is as it was applied."""
    added = "resourceVersion: '1', uid: x, managedFields: []"
    text = (SERVICE % "web").replace("{name: web}", f"{{name: web, {added}}}") + "status: {loadBalancer: {}}\n"
    assert added in text
    (manifest,), _ = load(write("a.yaml", text))
    assert manifest.document == {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {}}


@pytest.mark.parametrize(("phase", "count"), [("Running", 1), ("Succeeded", 0), ("Failed", 0)])
def test_pods_that_have_ended(write, phase, count):
    """A pod that comes out of a cluster and will not run again is none."""
    text = "{apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: %s}}\n"
    assert len(load(write("a.yaml", text % phase))[0]) == count
