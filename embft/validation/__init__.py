"""Great Expectations as the guard of the nights, and the only place that imports it.

Words and verdicts
  verdicts       what a suite's run came to: rules, rows set aside, sentences for the person on call
  wording        rules, figures and examples in words
Running a suite
  engine         Great Expectations itself: rules → expectations, a frame → findings
  suites         `SuiteRun`: rows partition by partition, then the set, then figures
  outcomes       findings → outcomes of rules → a verdict
  masking        what rules on a private column may show
  setting_aside  rows that may go on, rows that may not
  suite_check    whether the suites of a config can be built, before any night
  docs           Data Docs: one page a suite, and a first page that says what is wrong
  drawings       sessions a day and an hour, for that page
What suites speak about
  lists, hashes, scripts   columns of lists, texts as numbers, scripts of writing
  catalogue      `check_catalogue`: one row an item, and figures against the night before
  session_frame  one row a session
  profiles       a log day in figures
  usual          what is usual for a day, and how far it lies from that
  day_figures    those figures, as the suite `sessions` names them
  window         what the check of sessions is given
  sessions       `check_sessions`: both suites, the quarantine, the clean tables
  rank_frame, item_vectors, drift   one row a session's ranks; the vectors behind them; their spread
  ranks          `check_ranks`: the inputs part by part, their figures, the distance from an earlier night
Limits of one's own
  proposals      limits out of what good days showed
  override_diff  those limits as a diff of the model's config
"""
