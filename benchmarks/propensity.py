"""How well position bias is estimated from a log that has it, and what correcting it gains.

The estimate: a made-up search engine with known propensities. Queries are searched by Zipf's law; each has thirty items
of known attraction, and its ten best by attraction and chance are shown, in an order that differs from search to
search. Errors are the greatest over ten positions of |estimated - planted| / planted.
"""
import sys
import numpy as np
import pyarrow as pa
from time import perf_counter
from embft.clickstream.propensities import estimate_propensities

N_POSITIONS = 10
def world(n_sessions, seed, planted, noise=0.7, click="pbm", n_queries=2000, n_items=30, trust=0.05):
    g = np.random.default_rng(seed)
    shares = np.arange(1, n_queries+1.0)**-1.0
    q = g.choice(n_queries, size=n_sessions, p=shares/shares.sum())
    gamma = g.beta(1, 5, size=(n_queries, n_items))
    score = np.log(gamma[q]) + g.gumbel(scale=noise, size=(n_sessions, n_items))
    shown = np.argsort(-score, axis=1)[:, :N_POSITIONS]
    a = np.take_along_axis(gamma[q], shown, 1)
    if click == "cascade":
        hit = g.random(a.shape) < a
        stop = hit.argmax(1)
        clicked = hit & (np.arange(N_POSITIONS)[None] == stop[:, None])
    else:
        p = planted * a if click == "pbm" else planted*(a+(1-a)*trust*planted)
        clicked = g.random(a.shape) < p
    ids = pa.array([f"i{n}" for n in range(n_items)])
    rows = pa.array([f"q{n}" for n in range(n_queries)])
    def lists(mask):
        off = np.concatenate([[0], np.cumsum(mask.sum(1))])
        return pa.ListArray.from_arrays(pa.array(off, pa.int32()), ids.take(pa.array(shown[mask])))
    return pa.table({"query": rows.take(pa.array(q)), "shown": lists(np.ones_like(clicked)), "positions": pa.nulls(n_sessions, pa.list_(pa.int32())), "clicked": lists(clicked)})

if __name__ == "__main__":
    for planted in (np.arange(1,11.)**-0.8, np.arange(1,11.)**-1.0, np.array([1,.9,.5,.4,.45,.3,.2,.2,.1,.1])):
      for noise in (0.3,0.7,1.5):
       for seed in range(2):
        for click in ("pbm","trust"):
          t = world(200_000, seed, planted, noise, click)
          for m in ("em","interventions"):
            s = perf_counter(); p = estimate_propensities(t, m); s = perf_counter()-s
            e = np.array(p.values)/planted-1
            print(click, noise, seed, m, f"{np.abs(e).max():.3f} {s:.2f}s", np.round(e,3), flush=True)
