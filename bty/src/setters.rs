//! Setters for the fields of options.

/// Adds a setter for each listed field, of the same name: `Options::default().field(value)`. The
/// type of the argument is that of the field, or `impl Into` it.
macro_rules! setters {
    (
        $(#[$attribute:meta])*
        $type:ident $(<$life:lifetime>)? { $( $field:ident: $value:ty, )+ }
    ) => {
        $(#[$attribute])*
        impl $(<$life>)? $type $(<$life>)? {
            $(
                #[doc = concat!("Sets the field `", stringify!($field), "`.")]
                #[must_use]
                pub fn $field(mut self, value: $value) -> Self {
                    self.$field = value.into();
                    self
                }
            )+
        }
    };
}

pub(crate) use setters;
