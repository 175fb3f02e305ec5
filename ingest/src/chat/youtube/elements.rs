//! The elements of a JSON array that arrives bit by bit: each is handed on as soon as its last byte is there.

use bytes::{Buf, Bytes};

/// What arrives is not an array of objects, or one of them is too large; what is wrong.
pub(crate) type Broken = &'static str;

/// Finds where elements begin and end; whether they are JSON is seen by who reads them.
#[derive(Debug)]
pub(crate) struct Elements {
    /// The largest element, in bytes.
    most: usize,
    /// What there is of the element that has begun.
    element: Vec<u8>,
    place: Place,
}

/// Where in the array the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Between,
    /// In an element, within so many braces and brackets.
    Inside(usize),
    /// In a string of an element, likewise; and whether the byte before was a backslash that counts.
    Text(usize, bool),
    After,
}

impl Elements {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, element: Vec::new(), place: Place::Before }
    }

    /// Takes from what has arrived up to the end of an element, and hands that one out; `None` when more has to
    /// arrive.
    pub(crate) fn next(&mut self, arrived: &mut Bytes) -> Result<Option<Vec<u8>>, Broken> {
        for (index, byte) in arrived.iter().enumerate() {
            let was = self.place;
            self.place = was.after(*byte)?;
            if !was.in_element() && !self.place.in_element() {
                continue;
            }
            if self.element.len() >= self.most {
                return Err("an element is larger than chat.youtube.answer");
            }
            self.element.push(*byte);
            if self.place == Place::Between {
                arrived.advance(index + 1);
                return Ok(Some(std::mem::take(&mut self.element)));
            }
        }
        arrived.clear();
        Ok(None)
    }
}

impl Place {
    fn in_element(self) -> bool {
        matches!(self, Self::Inside(_) | Self::Text(..))
    }

    fn after(self, byte: u8) -> Result<Self, Broken> {
        Ok(match (self, byte) {
            (Self::Before | Self::Between | Self::After, b' ' | b'\t' | b'\r' | b'\n') => self,
            (Self::Before, b'[') => Self::Between,
            (Self::Before, _) => return Err("it is not an array"),
            (Self::Between, b',') => Self::Between,
            (Self::Between, b'{') => Self::Inside(1),
            (Self::Between, b']') => Self::After,
            (Self::Between, _) => return Err("an element is not an object"),
            (Self::Inside(depth), b'"') => Self::Text(depth, false),
            (Self::Inside(depth), b'{' | b'[') => Self::Inside(depth + 1),
            (Self::Inside(1), b'}' | b']') => Self::Between,
            (Self::Inside(depth), b'}' | b']') => Self::Inside(depth - 1),
            (Self::Inside(_), _) => self,
            (Self::Text(depth, false), b'"') => Self::Inside(depth),
            (Self::Text(depth, escaped), byte) => Self::Text(depth, byte == b'\\' && !escaped),
            (Self::After, _) => return Err("something follows the array"),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The elements of what arrives in pieces of so many bytes.
    fn elements(text: &str, piece: usize, most: usize) -> Result<Vec<String>, Broken> {
        let (mut elements, mut found) = (Elements::new(most), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            let mut arrived = Bytes::copy_from_slice(piece);
            while let Some(element) = elements.next(&mut arrived)? {
                found.push(String::from_utf8(element).unwrap());
            }
            assert!(arrived.is_empty(), "nothing is left behind");
        }
        Ok(found)
    }

    #[test]
    fn elements_are_the_same_in_whatever_pieces_they_arrive() {
        let objects = [r#"{"a":[1,{"b":"}]"}]}"#, r#"{"a":"\"}\\"}"#, "{}", "{\n \"é\": \"[{\\u005d\" }"];
        let text = format!(" [{},\r\n{}\n,{},{}]\n", objects[0], objects[1], objects[2], objects[3]);
        for piece in 1..=text.len() {
            assert_eq!(elements(&text, piece, 100).unwrap(), objects, "pieces of {piece} bytes");
        }
    }

    #[test]
    fn an_element_is_there_before_the_next_one_has_begun() {
        assert_eq!(elements(r#"[{"a":1}"#, 100, 100).unwrap(), [r#"{"a":1}"#]);
        assert!(elements(r#"[{"a":1"#, 100, 100).unwrap().is_empty());
        assert!(elements("", 1, 100).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_array_of_objects_or_too_large_is_told() {
        for text in [r#"{"items":[]}"#, "<html>", "[1]", "[{}]x", "[[]]"] {
            assert!(elements(text, 1, 100).is_err(), "{text}");
        }
        assert_eq!(elements(r#"[{"a":1},{"b":2}]"#, 1, 7).unwrap().len(), 2, "the bound is of one element");
        assert!(elements(r#"[{"a":12}]"#, 1, 7).is_err());
    }
}
