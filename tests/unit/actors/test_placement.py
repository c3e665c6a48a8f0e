"""Where actors go: in a trial's reserved bundles, each in its own for good."""

from ray.util.placement_group import PlacementGroup

from lapa_ray.actors.placement import Placement, bundles_of


def test_whoever_takes_a_place_takes_its_bundle():
    bundles = bundles_of(driver={"CPU": 0.5}, learner={"CPU": 2.0}, worker={"CPU": 1.0}, num_workers=3)
    placement = Placement(PlacementGroup.empty())
    places = [placement.server, placement.learner, *(placement.worker(index) for index in range(3))]
    assert [place.placement_group_bundle_index for place in places] == [0, 1, 2, 3, 4]
    assert [bundle["CPU"] for bundle in bundles] == [0.5, 2.0, 1.0, 1.0, 1.0]


def test_where_nothing_is_reserved_the_cluster_decides():
    assert (Placement().learner, Placement().worker(7)) == ("DEFAULT", "SPREAD")
