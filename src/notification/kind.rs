//! The kinds of messages, and what each spends, heeds and can be asked about; the same as `sql/schema/kinds` says.

/// Which of WeChat's subscriptions a notification uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One accept, one message.
    OneTime,
    /// Any number of messages until the user turns it off.
    LongTerm,
    /// A device's messages, any number for one serial number and model.
    Device,
    /// A state, or the ext fields, of a service card.
    ServiceCard,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::OneTime,
        Self::LongTerm,
        Self::Device,
        Self::ServiceCard,
    ];

    /// The kind stored as `text`, or `None` for a word this version does not know.
    #[must_use]
    pub fn from_column(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The word in the column `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneTime => "one_time",
            Self::LongTerm => "long_term",
            Self::Device => "device",
            Self::ServiceCard => "service_card",
        }
    }

    /// Whether a message takes one accept of the user's: `wxnotify_spends_credit`.
    #[must_use]
    pub fn spends_credit(self) -> bool {
        matches!(self, Self::OneTime)
    }

    /// Whether a user can turn such messages off, template by template: `wxnotify_can_be_refused`.
    #[must_use]
    pub fn can_be_refused(self) -> bool {
        matches!(self, Self::OneTime | Self::LongTerm)
    }

    /// Whether WeChat can be asked what became of a message; its ext fields excepted: `wxnotify_reads_back`.
    #[must_use]
    pub fn reads_back(self) -> bool {
        matches!(self, Self::ServiceCard)
    }
}
