"""Writes spearman.json: rank correlations of scipy, for tests/metrics/rank_correlation_test.cpp.

Needs what tests/python/requirements.txt names. Short integers make ties; some cases have nothing but ties.
"""

import json
import pathlib
import random
import warnings

import scipy

draw = random.Random(1806)
cases = []
for number in range(140):
    n = draw.choice([2, 3, 4, 6, 8, 8, 16, 64])
    top = draw.choice([1, 3, n, 10**6])  # few values: many ties
    x = [draw.randint(0, top) for _ in range(n)]
    y = [value if draw.random() < number / 140 else draw.randint(0, top) for value in x]
    y = [draw.choice([1, -1]) * value for value in y] if number % 3 == 0 else y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant input: its correlation is NaN
        correlation = float(scipy.stats.spearmanr(x, y).statistic)
    cases.append({"x": x, "y": y, "spearman": None if correlation != correlation else correlation})

lines = ",\n".join(json.dumps(case) for case in cases)
text = f'{{"scipy": "{scipy.__version__}", "cases": [\n{lines}\n]}}\n'
pathlib.Path(__file__).with_name("spearman.json").write_text(text)
