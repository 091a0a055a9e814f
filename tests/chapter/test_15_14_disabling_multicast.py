"""15.14, disabling multicast for a project: without the annotation everything is as if it had never been."""

from __future__ import annotations

import pytest

from ovnk_core.terms.name import ObjectRef
from tests.chapter.test_15_13_multicast import BASE, ask, heard, namespace
from tests.kit import manifest as m
from tests.kit.questions import cluster_of
from tests.kit.walk import assert_same_rows, desired_rows


@pytest.mark.parametrize("text", [None, "false", "True"])
def test_15_14_1_removing_the_annotation_removes_every_trace(text: str | None) -> None:
    cluster = cluster_of([*BASE, namespace("project", "true")])
    never = cluster_of([*BASE, namespace("project", text)])
    assert heard(ask(cluster, "project/msender", "224.1.0.1")) == ["project/mlistener"]
    assert desired_rows(cluster) != desired_rows(never)
    cluster.apply(m.accepted(namespace("project", text)).items)
    assert ask(cluster, "project/msender", "224.1.0.1").verdict == "drop"
    assert_same_rows(cluster, never, "after the annotation is gone")
    cluster.engine.verify()


def test_deleting_the_namespace_removes_every_trace() -> None:
    cluster, never = cluster_of([*BASE, namespace("project", "true")]), cluster_of(BASE)
    cluster.apply((), (ObjectRef("Namespace", "", "project"),))
    assert_same_rows(cluster, never, "after the namespace is gone")


def test_another_project_keeps_it() -> None:
    cluster = cluster_of([*BASE, namespace("project", "true"), namespace("other", "true"), m.pod("n", "other")])
    cluster.apply(m.accepted(namespace("other")).items)
    assert heard(ask(cluster, "project/msender", "224.1.0.1")) == ["project/mlistener"]
    assert ask(cluster, "other/stranger", "224.1.0.1").verdict == "drop"
