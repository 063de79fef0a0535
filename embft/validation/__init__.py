"""Great Expectations as the guard of the nights, and the only place that imports it.

verdicts       what a suite's run came to: rules, broken rows, sentences for the person on call
wording        rules, figures and examples in words
engine         Great Expectations itself: rules → expectations, a frame → findings
masking        what rules on a private column may show
docs           Data Docs: one page a suite, and a first page that says what is wrong
suites         `run_suite`: rows first, then what is left of the set
lists          columns of lists, counted
catalogue      the frame that the suite `catalogue` speaks about
session_frame  the frame that the suite `sessions` speaks about
sessions       `check_sessions`: both suites, the quarantine, the clean tables
drift          a distribution of ranks, stored as quantiles, and its distance from an earlier one
rank_frame     the frame that the suite `ranks` speaks about
item_vectors   figures about the vectors behind the ranks
ranks          `check_ranks`: the inputs part by part, their figures, the distance from an earlier night
"""
