"""The pages for people: a process of its own that knows the gateway by its admin API only.

    running.py      the process
    app.py          assembly: pages, door, guard
    guard.py        headers, origin, session: what every request goes through
    login.py, session.py    signing in; keys stay in this process's memory
    oidc.py, oidc_door.py   the same by an identity provider
    client.py, cache.py     the gateway's API, its errors in words, answers shared for a second or two
    view.py         what a page is given: regions that fill in and refresh, actions that say how they went
    frame.py        navigation, the gateway's state, theme
    parts.py, words.py, charts.py, tables.py, schema_form.py    what pages are made of
    dialogs.py      forms and views in a dialog
    budget_cards.py, settings_form.py, exporting.py    the larger parts of two pages
    pages/          one module a page, listed in pages/__init__.py
    assets/         style sheet, script, and the browser's half of charts and tables

Data of the gateway (prompts, names, notes) is text wherever it goes: in `parts.text`, `words`, tables, charts. It never
becomes HTML, a string given to NiceGUI's `.props()` or `.classes()`, the key of a dictionary that a component is given
(NiceGUI runs those that begin with a colon), or a link's target. docs/dashboard.md says how a page is added.
"""
