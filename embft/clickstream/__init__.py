"""From raw click logs to honest sessions, to judgements; and a made-up shop whose logs look like real ones.

Reading a log, in the order in which data flows:

    days                             which objects hold a day's lines, and when the day begins and ends
    lines → parsing                  an object's bytes → blocks of lines → records, and what is set aside
      arrow_lines · parquet_rows     many lines as columns
      fields · columns               one value by itself; whole columns at once, to the same end
      values · times · privacy · sources   what a field may hold, and what of it is kept
      records: session_form · event_form   a line is a search, or an event of one
    joining                          events → searches
    noise                            copies, robots, caps
    reader (in a workspace)          all of it for one day → sessions, quarantine, accounting, by row_groups
    inspection                       a look at a log that has no config yet
    catalogue                        the items, read with the same manners

What sessions teach:

    known · split                    what the catalogue has; by time into parts
    judgements · negatives           which results count as relevant, and which as not
    impressions → position_click_model, interventions → propensities     how likely each place was looked at
    anonymity                        which queries may be shown to people

The demo's logs:

    shop → queries, lexical → simulated_* (click_model, damage) → simulator → delivery

Nothing is imported here, so that each user pays only for what it needs.
"""
