from tests.dashboard.tab import Tab


def test_the_overview_can_be_used_by_everybody(tab: Tab):
    tab.goto("/")
    tab.assert_inert()
    tab.assert_fits()
    tab.assert_accessible()
