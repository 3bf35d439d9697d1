//! Elements from tags, by what NCCL expects where (`graph/xml.cc` `xmlLoadSub` and its handlers).

use super::finding::{Effect, Problem, Violation};
use super::lexer::{Lexer, Tag, TagKind};
use super::rules;
use crate::element::{Element, MAX_ATTRIBUTES, MAX_FILE_ELEMENTS, ROOM_FOR_ATTRIBUTES};

/// The deepest nesting that is followed; NCCL has no bound but its stack.
const MAX_DEPTH: usize = 128;

/// The `<system>` element, where there is one, and what is wrong with the text.
pub(super) fn read_tree(text: &str) -> (Option<Element>, Vec<Violation>) {
    let mut reader = Reader {
        lexer: Lexer::new(text),
        violations: Vec::new(),
        kept: 0,
        ended: false,
    };
    let mut document = Element::default();
    reader.fill(&mut document, true, 0);
    let mut violations = reader.violations;
    let mut systems = document.children.into_iter();
    let root = systems.next();
    // A file that is refused is not also passed over.
    let is_read = reader.lexer.errors.is_empty();
    if root.is_none() && is_read {
        violations.push(violation(1, "", Effect::Ignored, Problem::NoSystem));
    }
    for second in systems {
        let tag = second.tag();
        violations.push(violation(
            second.line,
            &tag,
            Effect::Ignored,
            Problem::SecondSystem,
        ));
    }
    let errors = reader.lexer.errors.into_iter();
    violations.extend(errors.map(|(line, problem)| violation(line, "", Effect::Fatal, problem)));
    (root, violations)
}

pub(super) fn violation(line: usize, at: &str, effect: Effect, problem: Problem) -> Violation {
    Violation {
        line,
        at: at.to_owned(),
        effect,
        problem,
    }
}

struct Reader<'t> {
    lexer: Lexer<'t>,
    violations: Vec<Violation>,
    /// Elements that NCCL keeps, so far.
    kept: usize,
    /// Whether the end of the text inside an element was told.
    ended: bool,
}

impl Reader<'_> {
    fn note(&mut self, tag: &Tag, effect: Effect, problem: Problem) {
        let at = if tag.kind == TagKind::Close {
            String::new()
        } else {
            element_of(tag).tag()
        };
        self.violations
            .push(violation(tag.line, &at, effect, problem));
    }

    /// Reads what is in `parent` up to its closing tag; `known` where NCCL looks at what it finds there.
    fn fill(&mut self, parent: &mut Element, known: bool, depth: usize) {
        while let Some(tag) = self.lexer.next_tag() {
            if tag.kind == TagKind::Close {
                if self.closes(&tag, parent, depth) {
                    return;
                }
                continue;
            }
            let kept = known && children_of(&parent.name).contains(&tag.name.as_str());
            if known && !kept {
                let parent = match parent.name.as_str() {
                    "" => "at the top".to_owned(),
                    name => format!("in <{name}>"),
                };
                self.note(&tag, Effect::Ignored, Problem::UnknownElement { parent });
            }
            let mut element = element_of(&tag);
            if kept {
                self.count(&tag);
                self.count_attributes(&tag, &element);
            }
            if tag.kind == TagKind::Open {
                if depth < MAX_DEPTH {
                    self.fill(&mut element, kept, depth + 1);
                } else {
                    let inside = format!("more than {MAX_DEPTH} levels");
                    self.note(&tag, Effect::Fatal, Problem::Unterminated { inside });
                }
            }
            if kept {
                parent.children.push(element);
            }
        }
        if depth > 0 && !self.ended && !self.lexer.ended {
            self.ended = true;
            let inside = parent.tag();
            let line = self.lexer.line();
            let problem = Problem::Unterminated { inside };
            self.violations
                .push(violation(line, "", Effect::Fatal, problem));
        }
    }

    /// Whether the closing tag ends `parent`; a wrong one is taken for it.
    fn closes(&mut self, tag: &Tag, parent: &Element, depth: usize) -> bool {
        let found = tag.name.clone();
        if depth == 0 {
            self.note(tag, Effect::Fatal, Problem::ClosesNothing { found });
            return false;
        }
        if tag.name != parent.name {
            let expected = parent.name.clone();
            self.note(tag, Effect::Fatal, Problem::Mismatch { found, expected });
        }
        true
    }

    /// NCCL passes over attributes after the 16th; its room for those that it adds itself it does not watch
    /// (`graph/xml.cc` `xmlGetNode`, `xmlSetAttr`).
    fn count_attributes(&mut self, tag: &Tag, element: &Element) {
        let count = tag.counted;
        if count > MAX_ATTRIBUTES {
            self.note(tag, Effect::Ignored, Problem::TooManyAttributes { count });
        }
        let missing = rules::added_by_nccl(&tag.name)
            .iter()
            .filter(|key| element.get(key).is_none());
        let with_added = count.min(MAX_ATTRIBUTES) + missing.count();
        if with_added > ROOM_FOR_ATTRIBUTES {
            let count = with_added;
            self.note(tag, Effect::Fatal, Problem::NoRoomForAttributes { count });
        }
    }

    fn count(&mut self, tag: &Tag) {
        self.kept += 1;
        if self.kept == MAX_FILE_ELEMENTS + 1 {
            let count = self.kept;
            self.note(tag, Effect::Fatal, Problem::TooManyElements { count });
        }
    }
}

pub(super) fn element_of(tag: &Tag) -> Element {
    Element {
        name: tag.name.clone(),
        attributes: tag.attributes.clone(),
        children: Vec::new(),
        line: tag.line,
        filled: Vec::new(),
    }
}

/// What NCCL looks for in an element; at the top, `<system>`.
fn children_of(name: &str) -> &'static [&'static str] {
    match name {
        "" => &["system"],
        "system" => &["cpu"],
        "cpu" => &["pci", "nic"],
        "pci" => &["pci", "gpu", "nic", "pcilink"],
        "gpu" => &["nvlink", "c2c"],
        "nic" => &["net"],
        _ => &[],
    }
}
