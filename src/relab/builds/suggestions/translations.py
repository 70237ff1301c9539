"""Translate error messages of the C library, GCC, make, bash and git into English.

Log lines are compared with the signs (typical words) of known failures, and these signs are in English.
"""

from __future__ import annotations

from typing import Final

_TRANSLATIONS: Final = {
    "no such file or directory": (
        "datei oder verzeichnis nicht gefunden",
        "aucun fichier ou dossier de ce type",
        "no existe el fichero o el directorio",
        "no existe el archivo o el directorio",
        "нет такого файла или каталога",
        "そのようなファイルやディレクトリはありません",
        "没有那个文件或目录",
    ),
    "permission denied": (
        "keine berechtigung",
        "permission non accordée",
        "permiso denegado",
        "отказано в доступе",
        "許可がありません",
        "权限不够",
    ),
    "no space left on device": (
        "auf dem gerät ist kein speicherplatz mehr verfügbar",
        "aucun espace disponible sur le périphérique",
        "no queda espacio en el dispositivo",
        "на устройстве не осталось свободного места",
        "デバイスに空き領域がありません",
        "设备上没有空间",
    ),
    "segmentation fault": (
        "speicherzugriffsfehler",
        "erreur de segmentation",
        "violación de segmento",
        "ошибка сегментирования",
        "段错误",
    ),
    "command not found": (
        "befehl nicht gefunden",
        "kommando nicht gefunden",
        "commande introuvable",
        "orden no encontrada",
        "команда не найдена",
        "コマンドが見つかりません",
        "未找到命令",
    ),
    "undeclared (first use in this function)": (
        "nicht deklariert (erste verwendung in dieser funktion)",
        "non déclaré (première utilisation dans cette fonction)",
        "no se declaró aquí (primer uso en esta función)",
        "не описан (первое использование в этой функции)",
        "が宣言されていません (この関数内での最初の使用",
        "未声明(在此函数内第一次使用",
    ),
    "fatal error": (
        "schwerwiegender fehler",
        "erreur fatale",
        "error fatal",
        "фатальная ошибка",
        "致命的エラー",
        "致命错误",
    ),
    "fatal:": ("schwerwiegend:",),
    "no rule to make target": (
        "keine regel vorhanden, um das ziel",
        "aucune règle pour fabriquer la cible",
        "no hay ninguna regla para construir el objetivo",
        "нет правила для сборки цели",
        "を make するルールがありません",
        "没有规则可制作目标",
    ),
    "undefined reference to": (
        "nicht definierter verweis auf",
        "référence indéfinie vers",
        "sin definir",
        "неопределённая ссылка на",
        "に対する定義されていない参照",
        "未定义的引用",
    ),
    "cannot find": ("ne peut pas trouver", "no se puede encontrar", "невозможно найти", "が見つかりません", "找不到"),
    "repository": ("le dépôt", "repositorio", "репозиторий", "仓库"),
    "does not exist": ("existiert nicht", "n'existe pas", "no existe", "не существует", "不存在"),
    "] error": ("] fehler", "] erreur", "] ошибка", "] エラー", "] 错误"),
}
"""`{message in English: its translations}`, in lower case: German, French, Spanish, Russian, Japanese and Chinese."""
_PHRASES: Final = sorted(
    ((phrase, f" {english} ") for english, phrases in _TRANSLATIONS.items() for phrase in phrases),
    key=lambda each: -len(each[0]),
)
"""The longest first, because a phrase may be a part of another one."""


def in_english(text: str) -> str:
    """Return a line in lower case, with the known error messages in it translated into English; for comparisons only."""
    lower = text.lower()
    for phrase, english in _PHRASES:
        if phrase in lower:
            lower = lower.replace(phrase, english)
    return lower
