//! Casts to JSON that extensions define, such as that of hstore.

use pgrx::pg_sys;

/// Returns the function that makes JSON of a value, if an extension has one for its type. The casts
/// of built-in types to json are not meant.
///
/// # Safety
/// The type exists.
pub unsafe fn cast_to_json(oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    if oid.to_u32() < pg_sys::FirstNormalObjectId {
        return None;
    }
    let mut function = pg_sys::Oid::INVALID;
    // SAFETY: the caller's promise.
    let path = unsafe {
        pg_sys::find_coercion_pathway(
            pg_sys::JSONOID,
            oid,
            pg_sys::CoercionContext::COERCION_EXPLICIT,
            &mut function,
        )
    };
    let is_function = path == pg_sys::CoercionPathType::COERCION_PATH_FUNC;
    (is_function && function != pg_sys::Oid::INVALID).then_some(function)
}
