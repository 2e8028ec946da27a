//! The chain: the order in which members relay the stream, and what they must keep.
//!
//! The golden node and the nodes are [`Member`]s, each with a [`window`](Window) of the stream's last blocks.
//! Only the controller's [`Membership`] decides the order, in numbered epochs. Members receive their place as
//! a [`View`] and send [`Report`]s of trouble.

mod blame;
mod ids;
mod link;
mod link_keys;
mod member;
mod membership;
mod outlet;
mod reason;
mod rules;
mod shares;
mod slowness;
mod view;
mod window;

pub use ids::{Epoch, NodeId, Offset};
pub use link::{LinkMessage, LinkName};
pub use link_keys::{LinkKeys, LinkSecret, Secrets};
pub use member::{Action, LinkId, Member};
pub use membership::{Decision, Membership};
pub use outlet::Plaintext;
pub use reason::{Part, Reason};
#[doc(hidden)]
pub use rules::Rules;
pub use shares::{Shares, Spent, Waiting};
pub use slowness::{Limit, Limiter, ProgressSample, Slow, SlowLimits, Slowness};
pub use view::{Neighbour, Report, Trouble, View};
pub use window::{MIN_WINDOW, Window};
