"""Labels, units and words of verdicts in languages other than English.

Judges answer in the language of the text that they judge, and translate the labels that they are
asked for. Languages without spaces let words run into a label: only known ones may stand before it,
so that the score of an aspect ("准确性评分", accuracy score) is not taken for the whole.
"""

from __future__ import annotations

_LEAD = (
    "(?:因此|所以|综上|綜上|总之|故|我|给|給|出|的|最终|最終|最后|最後|总体|總體|综合|綜合|整体|整體|总|總|该|該|此|本"
    "|这个|這個|回答|答案|回复|助手|質量|质量|総合|全体|の|최종|총|종합|전체)*"
)
_END = r"(?:\s+(?:final[e]?|total[e]?|globale?|general|geral|complessiv[oa]))?"

SCORE = (
    rf"(?:{_LEAD}(?:评分|評分|得分|分数|分數|打分|评级|評級|スコア|評価|点数|採点|得点|評点|점수|평점|평가)"
    r"(?:是|为|為|は)?"
    rf"|(?:puntuaci[oó]n|puntaje|calificaci[oó]n|valoraci[oó]n|pontua[cç][aã]o|avalia[cç][aã]o|punteggio){_END}"
    r"|not[ae]\s+(?:final[e]?|total[e]?|globale?|geral)"
    r"|(?:gesamt)?(?:punktzahl|bewertung|punkte)"
    r"|(?:(?:итоговая|общая)\s+)?оценка|(?:итоговый\s+)?балл"
    r"|الدرجة|التقييم|النتيجة|điểm(?:\s+số)?|puan|ocena|स्कोर)"
)
"""Labels of a score."""
WINNER = (
    rf"(?:{_LEAD}(?:更好|更优|更優|更佳|较好|較好|较优|胜者|勝者|获胜者|獲勝者|胜出者|优胜者|赢家|贏家"
    r"|判断|判斷|裁决|裁決|判定|结论|結論|选择|選擇|答案|より良い|優れている|더\s?나은|승자|판정)"
    r"(?:的|の)?\s?(?:答案|回答|回复|回覆|助手|模型|选项|選項|一方|一个|応答|答え|方|답변|응답)?(?:是|为|為|は)?"
    r"|(?:mejor|melhor)(?:\s+(?:respuesta|resposta))?|meilleure?(?:\s+réponse)?|besser(?:e\s+antwort)?"
    r"|miglior[ei]?(?:\s+risposta)?|ganador[a]?|vencedora?|gagnante?|gewinner|vincitore"
    r"|veredicto|veredito|verdetto|urteil|лучше|лучший\s+ответ|победитель|вердикт)"
)
"""Labels of a winner."""
NOUNS = (
    "答案|回答|回复|回覆|助手|模型|选项|選項|応答|答え|アシスタント|モデル|답변|응답|어시스턴트|모델"
    "|respuesta|resposta|risposta|réponse|antwort|ответ|asistente|assistente|modelo|modèle|modell|modello"
)
TIES = (
    "平局|平手|打平|不相上下|一样好|一樣好|引き分け|同点|무승부|empate|égalité"
    "|unentschieden|gleichstand|pareggio|ничья"
)
UNIT = r"(?:[ \t]*(?:分|点|點|점)(?![^\W\d_]))"
"""Unit of a score, written without a space; no other word may follow ("4分钟" are minutes)."""
TOP = "满分|滿分|満点|만점"
"""Words before the highest score of a scale."""
BETTER = (
    "(?:更好|更优|更優|更佳|较好|較好|胜出|勝出|获胜|獲勝"
    r"|の(?:ほう|方)が(?:良い|よい|優れ)|が(?:優れて|良い|勝)|가\s*더\s*(?:좋|나))"
)
"""Words after a side that make it the winner."""
OTHER_WORD = rf"\s*(?!{BETTER})[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A word after a side that may say anything: that it is worse, or as good."""
RANGE = r"到|至|、|或|和|から|または|以上|以下|左右"
WORDS_BETWEEN = r"a|à|até|до|или|и|o|ou|oder|e|y|et|и|bis|und"
REVISED = (
    "修改为|修改為|改为|改為|改成|更正|调整为|調整為|修正|変更|应该是|應該是|不对|不對|不,|等等|抱歉|いや|아니"
    r"|mejor\s+dicho|ou\s+plutôt|vielmehr|besser\s+gesagt|или\s+скорее"
)
"""Words before a verdict that replaces the one given first."""
