"""Folders of repositories: what is no manifest is passed over, and said."""

import pytest

from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.files.sources import folders_below, given_paths

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {}\n"
KUSTOMIZATION = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"


@pytest.fixture
def load(tmp_path):
    """Return a function that writes files into folders, and returns the objects and notes of all of them."""

    def load(**texts):
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        manifests, notes = Loader(folders_below([tmp_path])).load()
        return [each.label for each in manifests], [note.replace(f"{tmp_path}/", "") for note in notes]

    return load


@pytest.mark.parametrize(
    "text",
    [
        "image:\n  tag: 1\n",
        "steps:\n  - name: a cluster\n    kind: kind\n",
        "kind: pipeline\nname: build\n",
        "apiVersion: v2\nname: chart\n",
        "- apiVersion\n",
        '{"version": 1 // a comment\n}',
        "kind: Service\nmetadata:\n  name: {{ .Values.name }}\n{{- if .Values.more }}\n{{- end }}\n",
        SERVICE % '"{{ item }}"',
        SERVICE % "${NAME}",
    ],
    ids=["values", "a workflow", "a pipeline", "a chart", "a list", "a comment", "helm", "ansible", "envsubst"],
)
def test_no_manifest(load, text):
    """A file that holds no object, or is to be filled in, is passed over and named."""
    labels, notes = load(**{"a.yaml": SERVICE % "web", "b.yaml": text})
    assert labels == ["Service/web"]
    assert notes == ["passed over, since they are no manifests: b.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        "kind: Service\nmetadata: {name: a}\n",
        "apiVersion: v1\nmetadata: {name: a}\n",
        "apiVersion: v1\nkind: Servce\nx: [\n",
        SERVICE % "A",
        "image: 1\n---\n" + SERVICE % "a",
    ],
    ids=["no apiVersion", "no kind", "no YAML", "no name", "something before it"],
)
def test_mistakes(load, text):
    """What looks like a manifest is one, and its mistakes are said."""
    with pytest.raises(ManifestError):
        load(**{"a.yaml": text})


def test_a_long_file(load):
    """What cannot hold an object is not read further, however long it is."""
    _, notes = load(**{"data.json": "[" * 100_000})
    assert notes == ["passed over, since they are no manifests: data.json"]


def test_charts(load):
    """A Helm chart is passed over as a whole, and how it is run is said; what stands beside it is read."""
    labels, notes = load(
        **{
            "deploy/web.yaml": SERVICE % "web",
            "deploy/chart/Chart.yaml": "apiVersion: v2\nname: chart\n",
            "deploy/chart/values.yaml": "image: 1\n",
            "deploy/chart/templates/service.yaml": SERVICE % "by-chance",
            "deploy/chart/charts/inner/Chart.yaml": "apiVersion: v2\nname: inner\n",
            "deploy/chart/charts/inner/templates/service.yaml": SERVICE % "{{ .Release.Name }}",
        }
    )
    assert labels == ["Service/web"]
    (note,) = notes
    assert note.startswith("Helm charts are passed over, as deploy/chart: helm template ")
    assert note.endswith("deploy/chart | meshdemo up -f - runs one")


def test_kustomizations(load):
    """Patches of kustomize are no objects; that they are not applied is said, but not where there are none."""
    patches = "patches: [{path: replicas.yaml}, {patch: 'a: b'}]\npatchesStrategicMerge: [../base/more.yaml, 7]\n"
    labels, notes = load(
        **{
            "base/kustomization.yaml": f"{KUSTOMIZATION}resources: [web.yaml]\n",
            "base/web.yaml": SERVICE % "web",
            "base/more.yaml": SERVICE % "web",
            "prod/kustomization.yml": f"{KUSTOMIZATION}resources: [../base]\n{patches}",
            "prod/replicas.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 2}\n",
            "odd/kustomization.yaml": "[",
        }
    )
    assert labels == ["Service/web"]
    (note,) = notes
    assert note.startswith("what kustomize changes is not applied, as in prod: kubectl kustomize ")
    assert note.endswith("prod | meshdemo up -f - runs it")


def test_folders_as_they_were_given(tmp_path):
    """Errors about all files name the folders that were given, and not those in them."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    inner = tmp_path / "a" / "b.yaml"
    assert given_paths([*folders_below([tmp_path]), inner]) == [tmp_path, inner]
