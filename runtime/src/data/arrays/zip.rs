//! Zip archives as numpy's `.npz` uses them: members stored or deflated (PKWARE's APPNOTE 4.3, 4.5), found through the
//! central directory, checked by their CRC-32.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::Trouble;

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// Bytes of the end record without its comment, and the longest comment.
const END_LEN: usize = 22;
const COMMENT: usize = 65_535;
/// The best that deflate can do: 1032 bytes out of one (zlib's documentation).
const DEFLATE_RATIO: u64 = 1032;

/// A member of an archive.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its name.
    pub(super) name: String,
    method: u16,
    encrypted: bool,
    crc: u32,
    packed: u64,
    size: u64,
    header: u64,
}

fn damaged(what: &str) -> Trouble {
    Trouble::format(format!("is no intact zip archive: {what}")).help("fetch or write the file again")
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Trouble> {
    let two = bytes.get(at..at.saturating_add(2)).and_then(|b| <[u8; 2]>::try_from(b).ok());
    two.map(u16::from_le_bytes).ok_or_else(|| damaged("it is cut off"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Trouble> {
    let four = bytes.get(at..at.saturating_add(4)).and_then(|b| <[u8; 4]>::try_from(b).ok());
    four.map(u32::from_le_bytes).ok_or_else(|| damaged("it is cut off"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Trouble> {
    let eight = bytes.get(at..at.saturating_add(8)).and_then(|b| <[u8; 8]>::try_from(b).ok());
    eight.map(u64::from_le_bytes).ok_or_else(|| damaged("it is cut off"))
}

fn place(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Lists the members of an archive.
pub(super) fn members(file: &[u8]) -> Result<Vec<Member>, Trouble> {
    let first = file.len().saturating_sub(END_LEN + COMMENT);
    let last = file.len().checked_sub(END_LEN).ok_or_else(|| damaged("it is cut off"))?;
    let end = (first..=last).rev().find(|at| file[*at..].starts_with(&END));
    let end = end.ok_or_else(|| damaged("its directory is missing, so it was cut off"))?;
    let (mut count, mut start) = (u64::from(u16_at(file, end + 10)?), u64::from(u32_at(file, end + 16)?));
    if let Some(locator) = end.checked_sub(20).filter(|at| file[*at..].starts_with(&LOCATOR_64)) {
        let end_64 = place(u64_at(file, locator + 8)?);
        if !file.get(end_64..).is_some_and(|b| b.starts_with(&END_64)) {
            return Err(damaged("its directory is missing"));
        }
        (count, start) = (u64_at(file, end_64 + 32)?, u64_at(file, end_64 + 48)?);
    }
    let mut members: Vec<Member> = Vec::new();
    // Many names of one member would unpack it as often.
    let mut names = BTreeSet::new();
    let mut at = place(start);
    for _ in 0..count {
        if !file.get(at..).is_some_and(|b| b.starts_with(&CENTRAL)) {
            return Err(damaged("its directory is damaged"));
        }
        let lengths = [u16_at(file, at + 28)?, u16_at(file, at + 30)?, u16_at(file, at + 32)?].map(usize::from);
        let name_at = at + 46;
        let extra_at = name_at + lengths[0];
        let name = file.get(name_at..extra_at).ok_or_else(|| damaged("it is cut off"))?;
        let extra = file.get(extra_at..extra_at + lengths[1]).ok_or_else(|| damaged("it is cut off"))?;
        let mut member = Member {
            name: String::from_utf8_lossy(name).into_owned(),
            method: u16_at(file, at + 10)?,
            encrypted: u16_at(file, at + 8)? & 1 != 0,
            crc: u32_at(file, at + 16)?,
            packed: u64::from(u32_at(file, at + 20)?),
            size: u64::from(u32_at(file, at + 24)?),
            header: u64::from(u32_at(file, at + 42)?),
        };
        large(&mut member, extra)?;
        if !names.insert(member.name.clone()) {
            return Err(damaged("it holds two files of one name"));
        }
        members.push(member);
        at = extra_at + lengths[1] + lengths[2];
    }
    Ok(members)
}

/// Takes sizes that do not fit 32 bits from the zip64 field.
fn large(member: &mut Member, mut extra: &[u8]) -> Result<(), Trouble> {
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + len).ok_or_else(|| damaged("its directory is damaged"))?;
        if id == 1 {
            let mut at = 0;
            for size in [&mut member.size, &mut member.packed, &mut member.header] {
                if *size == u64::from(u32::MAX) {
                    *size = u64_at(field, at)?;
                    at += 8;
                }
            }
        }
        extra = &extra[4 + len..];
    }
    Ok(())
}

/// The bytes of a member, or only the first `limit` of them, which no CRC covers.
pub(super) fn read(file: &[u8], member: &Member, limit: Option<u64>) -> Result<Vec<u8>, Trouble> {
    let what = |text: &str| Trouble::format(format!("has a member `{}` {text}", member.name));
    if member.encrypted {
        return Err(what("that is encrypted").help("write it with `numpy.savez`"));
    }
    let at = place(member.header);
    if !file.get(at..).is_some_and(|b| b.starts_with(&LOCAL)) {
        return Err(what("that is not where the directory says").help("fetch or write the file again"));
    }
    let start = at + 30 + usize::from(u16_at(file, at + 26)?) + usize::from(u16_at(file, at + 28)?);
    let packed = file.get(start..start.saturating_add(place(member.packed)));
    let packed = packed.ok_or_else(|| what("that is cut off").help("fetch or write the file again"))?;
    let bytes = match member.method {
        0 => {
            let wanted = limit.map_or(packed.len(), |l| packed.len().min(place(l)));
            packed[..wanted].to_vec()
        }
        8 => {
            let most = (packed.len() as u64).saturating_mul(DEFLATE_RATIO);
            if member.size > most {
                return Err(what("whose size cannot be true").help("fetch or write the file again"));
            }
            let mut bytes = Vec::new();
            let decoder = DeflateDecoder::new(packed);
            let read = decoder.take(limit.unwrap_or(member.size.saturating_add(1))).read_to_end(&mut bytes);
            read.map_err(|_| what("whose compressed bytes are damaged").help("fetch or write the file again"))?;
            bytes
        }
        other => {
            return Err(what(&format!("packed by the method {other}; stored and deflated ones can be read"))
                .help("write it with `numpy.savez` or `numpy.savez_compressed`"));
        }
    };
    if limit.is_none() {
        let mut crc = Crc::new();
        crc.update(&bytes);
        if bytes.len() as u64 != member.size || crc.sum() != member.crc {
            return Err(what("whose bytes are damaged").help("fetch or write the file again"));
        }
    }
    Ok(bytes)
}

/// Writes an archive of stored members. Equal members give equal bytes: every date is zip's first.
///
/// # Errors
/// The writer's; members that together take 4 GiB and more.
pub(crate) fn write(members: &[(String, Vec<u8>)], out: &mut dyn std::io::Write) -> std::io::Result<()> {
    const FIRST_DAY: u16 = 0x21;
    let mut directory = Vec::new();
    let mut at = 0u64;
    let small = |n: u64| {
        u32::try_from(n).ok().filter(|n| *n != u32::MAX).ok_or_else(|| {
            std::io::Error::other("the arrays take more than 4 GiB, which `.npz` is not written for; use `.jsonl`")
        })
    };
    for (name, bytes) in members {
        let mut crc = Crc::new();
        crc.update(bytes);
        let size = small(bytes.len() as u64)?;
        let name_len = u16::try_from(name.len()).map_err(|_| std::io::Error::other("a name is too long"))?;
        // Version 2.0; bit 11: the name is UTF-8; stored; time 0.
        let mut common = Vec::new();
        for half in [20u16, 0x0800, 0, 0, FIRST_DAY] {
            common.extend(half.to_le_bytes());
        }
        for word in [crc.sum(), size, size] {
            common.extend(word.to_le_bytes());
        }
        common.extend(name_len.to_le_bytes());
        common.extend([0, 0]);
        directory.extend(CENTRAL);
        directory.extend(20u16.to_le_bytes());
        directory.extend(&common);
        // No comment, first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(small(at)?.to_le_bytes());
        directory.extend(name.as_bytes());
        out.write_all(&LOCAL)?;
        out.write_all(&common)?;
        out.write_all(name.as_bytes())?;
        out.write_all(bytes)?;
        at += 30 + name.len() as u64 + bytes.len() as u64;
    }
    let count = u16::try_from(members.len()).map_err(|_| std::io::Error::other("there are too many arrays"))?;
    let (size, start) = (small(directory.len() as u64)?, small(at)?);
    out.write_all(&directory)?;
    out.write_all(&END)?;
    out.write_all(&[0; 4])?;
    out.write_all(&count.to_le_bytes())?;
    out.write_all(&count.to_le_bytes())?;
    out.write_all(&size.to_le_bytes())?;
    out.write_all(&start.to_le_bytes())?;
    out.write_all(&[0; 2])
}
