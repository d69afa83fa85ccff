"""The command line: docker's words, one module for each family of commands. The only room that prints and exits.

Rooms: `app` (dispatch, exit statuses), `catalog` (which module holds which command), `flags` (the table-driven parser),
`render` (the only printer), `progress` (long work on a terminal), `help` (texts from the tables), then the families:
`run` (with `request`, `terminal`, `cidfile` and `project`), `container`, `exec`, `listing`, `logs`, `inspect`, `image`,
`archive`, `build`, `system`. May import every floor below.
"""
