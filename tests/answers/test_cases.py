"""Hand-made true and false positives of the reader of answers: response, reference, expected."""

from __future__ import annotations

import pytest

from alignlab.answers import AnswerOptions, check

OPTIONS = "Which is the capital of France?\nA. London\nB. Paris\nC. Rome\nD. Bern"

RIGHT = [
    # markers
    ("She has 3 + 4 = 7 eggs.\n#### 7", "#### 7"),
    ("#### $7", "7"),
    ("#### 7 eggs", "7"),
    ("### Answer: 7", "7"),
    ("### Answer: seven or so: 7", "7"),
    ("Answer: 7", "7"),
    ("**Answer:** 7", "7"),
    ("**Final Answer**: 7", "7"),
    ("**Final answer:**\n\n7 eggs", "7"),
    ("The answer is 7.", "7"),
    ("So the answer is: 7 dollars", "7"),
    ("The correct answer would be 7", "7"),
    ("The answer to the question of how many eggs there are is 7.", "7"),
    ("Answer: 3 + 4 = 7", "7"),
    ("<answer>7</answer>", "7"),
    ("<answer>\n7\n</answer> Bye 8.", "7"),
    ("It is \\boxed{7}.", "7"),
    ("The final answer is:\n\\[ \\boxed{7} \\]", "7"),
    ("The answer is 6.\nThe answer is 7.", "7"),
    ("Answer: 6? No, that counts one egg twice.\nAnswer: 7", "7"),
    ("The answer is 6. Wait, I forgot one, so it makes 7", "7"),
    # without a marker
    ("She has 3 + 4 = 7 eggs.", "7"),
    ("Step 1: add 3 and 4.\n#### Step 2: the sum\nThat gives 7.", "7"),
    ("7", "7"),
    ("So in 5 days she has 3 + 4 = 7 eggs in 2 boxes.", "7"),
    ("In the end, **7** eggs are left in 2 boxes.", "7"),
    # notes below a number alone
    ("7\n\n1. She has 3 white and 4 brown eggs.\n2. Nothing else counts.", "7"),
    ("**7**\n\nNote: rounded from 6.8", "7"),
    ("7 eggs\n- each box holds 12", "7"),
    ("$7\n\nExplanation: it was $12 at first.", "7"),
    ("7.\n\n(Rounded to 2 digits.)", "7"),
    ("6\n\n1. Wait, she has 7", "7"),
    ("12\n- 5\n7", "7"),
    ("12\n- 3 white, 4 brown\n= 7", "7"),
    ("6\n\nSteps: 3 and 4, so 7", "7"),
    ("3\n4\n7", "7"),
    # numbers
    ("#### 1,234", "1234"),
    ("#### 1234", "1,234"),
    ("The answer is 1234,567.", "1,234,567"),
    ("The answer is 1234567.", "1,234,567"),
    ("#### 7.00", "7"),
    ("#### $7.50", "7.5"),
    ("The answer is 1/2.", "0.5"),
    ("The answer is .5", "1/2"),
    ("The answer is $\\frac{1}{2}$.", "0.5"),
    ("The answer is 1 1/2 cups", "1.5"),
    ("The answer is 12%.", "12"),
    ("The answer is 12 percent", "12%"),
    ("The answer is 0.12", "12%"),
    ("The answer is -3", "-3"),
    ("The answer is \u22123 degrees", "-3"),
    ("The answer is \\$18.", "18"),
    ("\\boxed{1{,}000}", "1000"),
    ("\\boxed{18\\text{ dollars}}", "18"),
    ("The answer is 2.5 million", "2500000"),
    ("The answer is 1e3", "1000"),
    ("16-3-4=9", "9"),
    ("The answer is $9", "$9"),
    ("\\boxed{\\frac12}", "0.5"),
    ("\\boxed{90^\\circ}", "90"),
    ("90 degrees", "90^{\\circ}"),
    ("#### 5k", "5000"),
    ("It makes $5M", "5000000"),
    ("Answer: minus 3", "-3"),
    ("It is negative 3 degrees", "-3"),
    ("10 minus 3 is 7", "7"),
    ("\u4ed6\u67092\u4e2a\uff0c\u53c8\u4e70\u4e863\u4e2a\uff0c\u4e00\u51715\u4e2a\u3002", "5"),
    ("The answer is 12 eggs, 6 of them brown", "12"),
    ("The answer is 3/4 or 0.75", "0.75"),
    ("The answer is 5 km.", "5 kilometers"),
    ("The answer is 5", "5 km"),
    # options
    ("B", "B"),
    ("(B)", "B"),
    ("b) Paris", "B"),
    ("B. Paris", "(B)"),
    ("The answer is B.", "B"),
    ("The answer is (B) Paris.", "B"),
    ("Answer: **B**", "B"),
    ("Answer: option B", "B"),
    ("Answer: b", "B"),
    ("The answer is 'B'.", "B"),
    ("I think the answer is B, not A.", "B"),
    ("Answer: B (not A)", "B"),
    ("The answer is Paris.", "B"),
    ("B) Paris, not A) London", "B"),
    ("The capital of France is well known.\n\nB", "B"),
    ("\\boxed{\\text{B}}", "B"),
    # texts
    ("Answer: Paris", "Paris"),
    ("Answer: the city.", "City"),
    ("Paris.", "paris"),
    ("The answer is **Paris**.", "Paris"),
    ("Yes, it is, because of the law.", "yes"),
    ("Answer: No, never.", "No"),
    ("It is \\boxed{\\text{Evelyn}}.", "\\text{Evelyn}"),
    # texts that look like formulas
    ("km/h", "km/h"),
    ("Answer: https://a.org/b", "https://a.org/b"),
    # thoughts
    ("<think>The answer is 6.</think>The answer is 7.", "7"),
    ("<think>\n#### 6\n</think>\n7", "7"),
]  # fmt: skip

WRONG = [
    ("#### 8", "7"),
    ("The answer is 7. Wait, I forgot one, so it makes 8", "7"),
    ("Answer: 7\nAnswer: 8", "7"),
    ("The answer is 77.", "7"),
    ("The answer is 7.5", "7"),
    ("The answer is -7", "7"),
    ("She has 7 eggs and sells 3.", "7"),
    ("The answer is 12", "0.12"),
    ("The answer is negative 7", "7"),
    ("The answer is 7k", "7"),
    ("The answer is 0.333", "1/3"),
    ("The answer is 5 miles", "5 km"),
    ("The answer is 50 cents", "$50"),
    ("A", "B"),
    ("The answer is (A) London, not Paris.", "B"),
    ("The answer is Rome.", "B"),
    ("Bern", "B"),
    ("Answer: Parisian", "Paris"),
    ("Answer: C", "C++"),
    ("Answer: vitamin", "vitamin a"),
    ("Answer: yes", "no"),
    ("<think>The answer is 7.</think>The answer is 8.", "7"),
]  # fmt: skip

UNREAD = [
    ("I do not know.", "7"),
    ("", "7"),
    ("The answer is unclear.", "7"),
    ("The answer is 7th", "7"),
    ("The answer is " + "7" * 5000, "7"),
    ("It makes 7/" + "7" * 5000, "1"),
    ("The answer is 1e999999999", "1"),
    ("The answer is not easy to see.", "7"),
    ("Answer: 7 or 8", "7"),
    ("The answer is 1,7", "17"),
    ("Answer: 7, 8", "7"),
    ("\\boxed{7 \\text{ and } 8}", "7"),
    ("Answer: 7 hours and 30 minutes", "7"),
    ("Answer: 7 feet 2 inches", "7"),
    ("The answer is x = 7 or x = 8", "8"),
    ("x = 7 or x = 8", "8"),
    ("The answer is \u00b17", "7"),
    ("x = \\pm 7", "7"),
    ("#### 1.234,56", "1234.56"),
    ("#### 1 234", "1"),
    ("The answer is 1.000.000", "1"),
    ("It makes 7,5", "5"),
    ("It makes 7 x 10^3", "10"),
    ("It is not A.", "A"),
    ("Answer: yes and no", "yes"),
    ("Answer: 7-8", "7"),
    ("Answer: $7 to $8", "7"),
    ("\\boxed{7 \\cdot x + 4}", "7"),
    ("Answer: 7 * 2", "7"),
    ("Answer: A or B", "B"),
    ("Both (A) and (B) are good.", "B"),
    ("A dog has four legs.", "A"),
    ("The capital is a big city.\nIt lies on a river.", "B"),
    ("Paris is large.\nIt is in France.", "Paris"),
    ("<think>The answer is 7.", "7"),
    ("<think>The answer is 7.</think>", "7"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "reference"), RIGHT)
def test_right_answers_score_1(response: str, reference: str) -> None:
    assert check(response, reference, OPTIONS).score == 1


def test_of_a_sentence_the_amount_answers_a_question_for_money() -> None:
    response = "So, $7 is what he earns in 4 hours."
    assert check(response, "7", "He sells eggs. How much does he earn in dollars?").score == 1
    assert check(response, "7", "He sells eggs. How many hours does it take?").score == 0
    share = "So he has 7 eggs, which is 50% of all."
    assert check(share, "7", "He sells half. How many eggs has he?").score == 1
    assert check(share, "50", "He sells half. Which percentage is left?").score == 1


@pytest.mark.parametrize(("response", "reference"), WRONG)
def test_wrong_answers_score_0(response: str, reference: str) -> None:
    found = check(response, reference, OPTIONS, AnswerOptions(strict=True))
    assert (found.score, found.reason) == (0, "")


@pytest.mark.parametrize(("response", "reference"), UNREAD)
def test_responses_without_one_answer_are_unread(response: str, reference: str) -> None:
    assert check(response, reference, OPTIONS, AnswerOptions(strict=True)).score is None
    lenient = check(response, reference, OPTIONS)
    assert (lenient.score, lenient.answer) == (0, None)
    assert lenient.reason in ("no answer found", "no single answer")


@pytest.mark.parametrize(
    "reference", ["^[a-zA-Z0-9_.+-]+@[a-zA-Z0-9-]+\\.[a-zA-Z0-9-.]+$", "Vegetarian/Vegan Lifestyle"]
)
def test_a_reference_without_a_formula_is_compared_as_text(reference: str) -> None:
    pytest.importorskip("math_verify")
    assert check(reference, reference, "Write it.").score == 1
    assert check("Something else, at length.", reference, "Write it.").score == 0


@pytest.mark.parametrize(
    "reference",
    [
        '<picture src="a.jpg">\n\n<caption>A sign that says "Stop".</caption>',
        "if (x == true) {\n  print(1);\n} else {\n  // nothing\n}",
        "Paris is the capital of France, a city of art and good food on the river Seine, with "
        "about two million inhabitants.",
    ],
)
def test_a_whole_text_is_no_final_answer(reference: str) -> None:
    found = check("Something else, at length.", reference, "Write it.")
    assert (found.score, found.reason.split(" (")[0]) == (
        None, "the reference is a whole text, no final answer"
    )  # fmt: skip
    assert check("x", reference, "Write it.", AnswerOptions(extract="text")).score == 0
    assert check("It is 4.", f"{reference}\n#### 4", "Count.").score == 1


WORDS_AFTER_NUMBERS = [
    ("2", "2\u03c0"), ("2", "2x"), ("2y", "2x"), ("5 AM", "5 PM"), ("5 June", "5 May"),
    ("5", "5 and a half"), ("5 m", "5 m/s"), ("3E", "3D"), ("5B", "5A"), ("100 S", "100 N"),
    ("(2,1)", "(1,2)"), ("(1,3) or (1,2)", "(1,2)"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "reference"), WORDS_AFTER_NUMBERS)
def test_words_that_change_a_number_count(response: str, reference: str) -> None:
    pytest.importorskip("math_verify")
    assert check(response, reference).score == 0
    assert check(reference, reference).score == 1


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        ("At 5 PM.", "5 p.m."), ("On 5 May.", "5 May"), ("18 may be it", "18 km"),
        ("5 metres per second", "5 m/s"), ("5", "5 m/s"),
        ("The force is 100 N.", "100 N"), ("100", "100 N"), ("5 km", "5km"),
        ("90\u00b0", "90"), ("90", "90\u00b0"), ("5", "+5"), ("\u00bd", "1/2"), ("1\u00bd", "1.5"),
        ("(1, 2)", "(1,2)"), ("The point is (1, 2).", "(1,2)"), ("[1, 2, 3]", "[1,2,3]"),
        ("5", "work #### 5"), ("5", "Answer: 5"), ("5", "The answer is 5"),
    ],
)  # fmt: skip
def test_signs_units_and_lists(response: str, reference: str) -> None:
    pytest.importorskip("math_verify")
    assert check(response, reference).score == 1


@pytest.mark.parametrize("reference", ["#### ", "\\boxed{}", " "])
def test_a_reference_that_marks_nothing_is_none(reference: str) -> None:
    found = check("5", reference)
    assert (found.score, found.reason) == (None, "the prompt has no reference answer")
