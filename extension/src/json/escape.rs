//! JSON strings, escaped exactly as Postgres escapes them (`escape_json`): `\b \f \n \r \t \" \\`,
//! other control characters as `\u00xx`, and everything else unchanged. Works on bytes, because
//! every server encoding keeps ASCII unchanged. Pure.

use crate::memory::Bytes;

/// 0 leaves the byte unchanged, 1 writes `\u00xx`, and another value is the letter after the
/// backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = 1;
        control += 1;
    }
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends `text` as a JSON string, quotes included.
pub fn write_string(out: &mut Bytes, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        out.extend_from_slice(&rest[..at]);
        match ESCAPES[usize::from(rest[at])] {
            1 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let byte = usize::from(rest[at]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[byte >> 4], HEX[byte & 15]]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::write_string;
    use crate::memory::Bytes;

    #[test]
    fn escapes_what_json_demands_and_nothing_else() {
        let mut out = Bytes::new();
        write_string(&mut out, "a\"b\\c\u{1}\u{1f}\u{7f}\n\r\t\u{8}\u{c}/ü€😀".as_bytes());
        assert_eq!(&out[..], "\"a\\\"b\\\\c\\u0001\\u001f\u{7f}\\n\\r\\t\\b\\f/ü€😀\"".as_bytes());
    }

    #[test]
    fn an_empty_text_is_an_empty_string() {
        let mut out = Bytes::new();
        out.push(b'x');
        write_string(&mut out, b"");
        assert_eq!(&out[..], b"x\"\"");
    }
}
