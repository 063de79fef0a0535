"""From raw click logs to honest sessions, and a made-up shop whose logs look like real ones.

    lines → values → session_lines → reader     one day's objects → sessions, quarantine, accounting
    catalogue                                   the items, read with the same manners
    split · negatives                           by time into parts; the not-clicked side of logs without shown lists
    shop → queries, lexical → click_model → simulator     the demo's logs

Nothing is imported here, so that each user pays only for what it needs.
"""
