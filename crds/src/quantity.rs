//! CPU and memory of tasks, and ranges of ports, which ECS writes as texts.

/// Parses `"256"`, `"1 vCPU"`, `".5 vcpu"` to CPU units.
pub fn cpu_units(text: &str) -> Option<i64> {
    quantity(text, &["vcpu", "vcpus"], 1024)
}

/// Parses `"8000-8009"` to the first and the last port (ECS `containerPortRange`): 1 <= first <= last <= 65535.
pub fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some((first, last))
}

/// Parses `"512"`, `"1 GB"`, `"0.5GB"` to MiB.
pub fn memory_mib(text: &str) -> Option<i64> {
    quantity(text, &["gb"], 1024)
}

fn quantity(text: &str, units: &[&str], factor: i64) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(plain) = text.parse::<i64>() {
        return (plain > 0).then_some(plain);
    }
    let number = units.iter().find_map(|u| text.strip_suffix(u))?.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole)
        || !digits(fraction)
        || (whole.is_empty() && fraction.is_empty())
        || fraction.len() > 6
    {
        return None;
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let scale = 10_i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part: i64 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let total = whole
        .checked_mul(factor)?
        .checked_add(part * factor / scale)?;
    (total > 0).then_some(total)
}
