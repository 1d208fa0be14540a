from fnmatch import fnmatchcase

from glocal.scanning.plan import Plan, Row
from glocal.study.tuning.groups import MOST_GROUPS, groups_of


def plan(*rows):
    return Plan((64, 64), (96, 96), tuple(Row(*row) for row in rows))


def local(path, operation, how, size=64):
    return (path, operation, "net.py:1", (size, size), (size, size), "local", how)


def patterns(groups):
    return {group.name: group.patterns for group in groups}


def test_groups_are_of_what_converts_them():
    groups, inseparable = groups_of(
        plan(
            local("encoder.0.norm", "instance_norm", "instance norm"),
            local("encoder.0.gate.0", "adaptive_avg_pool2d", "average pool"),
            local("decoder.norm", "instance_norm", "instance norm"),
            ("tail", "argmax", "net.py:2", None, None, "global", "selects"),
        )
    )
    assert patterns(groups) == {"instance norm": ("*.norm",), "average pool": ("*.gate.*",)}
    assert [group.count for group in groups] == [2, 1]
    assert inseparable == ()


def test_rewritten_blocks_are_named_by_their_operations():
    groups, _ = groups_of(
        plan(
            local("a.0", "mean", "rewrite of a.0"),
            local("a.0", "std", "rewrite of a.0"),
            local("a.1", "mean", "rewrite of a.1"),
            local("a.1", "std", "rewrite of a.1"),
            local("b", "softmax", "rewrite of b"),
        )
    )
    assert patterns(groups) == {"mean, std": ("a.*",), "softmax": ("b",)}


def test_one_kind_is_parted_by_the_size_of_its_maps():
    groups, _ = groups_of(
        plan(
            local("down.0.pool", "mean", "average pool", 64),
            local("down.1.pool", "mean", "average pool", 32),
            local("up.0.pool", "mean", "average pool", 64),
        )
    )
    assert patterns(groups) == {
        "maps of 64x64": ("down.0.pool", "up.*.pool"),
        "maps of 32x32": ("down.1.pool",),
    }


def test_patterns_match_their_own_alone():
    rows = [local(f"body.{n}.{m}.gate.0", "mean", "pool", 2**n) for n in range(3) for m in range(2)]
    groups, _ = groups_of(plan(*rows, local("odd[1].gate", "mean", "pool", 1)))
    for group in groups:
        matched = [
            row for row in rows if any(fnmatchcase(row[0], pattern) for pattern in group.patterns)
        ]
        assert {f"maps of {row[3][0]}x{row[3][0]}" for row in matched} == {group.name}
    assert "odd[[]1].gate" in groups[0].patterns


def test_what_holds_others_cannot_stay_global_alone():
    groups, inseparable = groups_of(
        plan(
            local("block", "mean", "rewrite of block"),
            local("block.norm", "instance_norm", "instance norm"),
            local("", "std", "rewrite of the network"),
        )
    )
    assert patterns(groups) == {"instance norm": ("*.norm",)}
    assert inseparable == ("mean", "std")


def test_groups_are_few():
    groups, _ = groups_of(
        plan(
            *(local(f"n{i}", "mean", f"rule {i}") for i in range(10)), local("m", "mean", "rule 7")
        )
    )
    assert len(groups) == MOST_GROUPS
    assert groups[0].name == "rule 7"
    assert groups[-1].name == "the others"
    assert sum(group.count for group in groups) == 11
