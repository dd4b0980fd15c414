"""Formulas as MathML, written into the page when it is built: no script, no font and no network to read them."""

import html
import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

SPACE = '<mspace width="0.1667em"></mspace>'


def mathml(node, as_block):
    tex = node.astext()
    try:
        written = tex2mathml(tex, as_block=as_block)
    except MathError as error:
        logger.warning("formula cannot be read: %s", error, location=node)
        return f"<code>{html.escape(tex)}</code>"
    # what browsers draw otherwise: no box, the indices of a letter with a dot under it, bars with space around them
    written = re.sub(r"<menclose [^>]*>(.*?)</menclose>", r'<mrow class="boxed">\1</mrow>', written, flags=re.DOTALL)
    written = re.sub(
        r'<munderover>\s*(<mi>\w</mi>)(.*?)(<mo stretchy="false">[˙^~]</mo>)\s*</munderover>',
        r"<msub><mover>\1\3</mover>\2</msub>",
        written,
        flags=re.DOTALL,
    )
    written = re.sub(r'<mo stretchy="false">\|</mo>', '<mo stretchy="false" lspace="0" rspace="0">|</mo>', written)
    written = re.sub(r"(\|</mo>\s*)<mo>(\w+)</mo>(?=\s*<mo [^>]*>\|)", r"\1<mi>\2</mi>", written)
    # a function's name stands apart from what it is multiplied by, and from its argument where there is no parenthesis
    name = r"(?:<msup>\s*)?<mi(?: [^>]*)?>[a-z]\w{2,}</mi>"
    written = re.sub(rf"(</m(?:i|n|sub|sup|row|frac)>\s*)({name})", rf"\1{SPACE}\2", written)
    written = re.sub(r"(<mo>&ApplyFunction;</mo>)(?!\s*<(?:mspace|mo))", rf"\1{SPACE}", written)
    if r"\left" not in tex:
        # plain braces are as high as a letter, as TeX sets them, and not as the formula around them
        written = re.sub(r"<mo>([{}])</mo>", r'<mo stretchy="false">\1</mo>', written)
    return written


def inline(translator, node):
    translator.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def block(translator, node):
    translator.body.append(translator.starttag(node, "div", CLASS="math-block"))
    translator.body.append(mathml(node, as_block=True))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
