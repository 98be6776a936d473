"""Derive columns and tables that pages filter by: outcomes of answers, errors of judges."""

from __future__ import annotations

import sqlite3

_ANSWERS = """
INSERT INTO answers
SELECT r.seed, r.prompt, r.model, r.rid,
    (SELECT f.value FROM feedback f WHERE f.seed = r.seed AND f.first = r.id AND f.kind = 'score'
        ORDER BY f.stage LIKE '%judge-examples', f.fid LIMIT 1),
    (SELECT f.spread FROM feedback f WHERE f.seed = r.seed AND f.first = r.id AND f.kind = 'score'
        ORDER BY f.stage LIKE '%judge-examples', f.fid LIMIT 1),
    (SELECT f.value FROM feedback f WHERE f.seed = r.seed AND f.first = r.id AND f.kind = 'score'
        ORDER BY f.stage LIKE '%judge-examples', f.fid LIMIT 1 OFFSET 1),
    (SELECT CASE f.winner WHEN 0 THEN 1.0 WHEN 1 THEN 0.0 ELSE 0.5 END FROM feedback f
        WHERE f.seed = r.seed AND f.first = r.id AND f.kind = 'preference' ORDER BY f.fid LIMIT 1),
    (SELECT count(*) FROM feedback f WHERE f.seed = r.seed AND f.first = r.id
        AND f.kind = 'unscored'),
    r.tokens, r.finish = 'length',
    (SELECT count(*) > 1 FROM responses o WHERE o.seed = r.seed AND o.prompt = r.prompt
        AND o.held_out AND o.text = r.text)
FROM responses r WHERE r.held_out
ON CONFLICT DO NOTHING
"""


def refresh(db: sqlite3.Connection) -> None:
    """Compute everything derived again, after new records."""
    db.execute(
        "UPDATE feedback SET truth = (SELECT t.value FROM truth t WHERE t.seed = feedback.seed "
        "AND t.response = feedback.first) WHERE kind IN ('score', 'unscored') AND truth IS NULL"
    )
    db.execute(
        "UPDATE feedback SET error = value - truth WHERE truth IS NOT NULL AND value IS NOT NULL"
    )
    db.execute(
        "UPDATE pairs SET inverted = (SELECT w.value < l.value FROM truth w, truth l "
        "WHERE w.seed = pairs.seed AND w.response = pairs.chosen "
        "AND l.seed = pairs.seed AND l.response = pairs.rejected)"
    )
    db.execute("DELETE FROM answers")
    db.execute(_ANSWERS)
