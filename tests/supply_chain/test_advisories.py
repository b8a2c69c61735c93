import datetime

import pytest

from tests.supply_chain import audit

BUNDLE = audit.read(audit.ADVISORIES)
ACCEPTED = audit.read(audit.ACCEPTED)


def test_nothing_is_known_against_a_locked_package_that_is_not_accepted_for_a_reason():
    known = audit.found(BUNDLE["advisories"], audit.all_locked())
    accepted = {(entry["package"], entry["id"]) for entry in ACCEPTED}
    assert [line for key, line in known.items() if key not in accepted] == []
    assert accepted - known.keys() == set(), "these are accepted without need: remove them"
    assert all(len(entry["reason"]) > 40 for entry in ACCEPTED)


def test_the_bundle_is_dated_and_of_locked_packages():
    assert datetime.date.fromisoformat(BUNDLE["as_of"]) > datetime.date(2026, 1, 1)
    locked = audit.all_locked()
    assert {known["package"] for known in BUNDLE["advisories"]} <= locked.keys()
    assert len({known["id"] for known in BUNDLE["advisories"]}) == len(BUNDLE["advisories"])


@pytest.mark.parametrize(
    ("name", "version", "ids"),
    [
        ("protobuf", "6.33.4", {"GHSA-7gcm-g887-7qv7"}),
        ("protobuf", "6.33.6", set()),
        ("pillow", "12.2.0", {"GHSA-8v84-f9pq-wr9x", "GHSA-phj9-mv4w-65pm"}),
        ("keras", "3.14.0", {"GHSA-5gwj-m78q-7pq3", "GHSA-cjgq-5qmw-rcj6"}),
    ],
)
def test_a_version_is_held_against_the_ranges_of_its_package(name, version, ids):
    found = {key[1] for key in audit.found(BUNDLE["advisories"], {name: [version]})}
    assert ids <= found
    assert bool(ids) == bool(found)
