//! Invalidate Requests that wait for completions, by function and ITag.

use std::collections::VecDeque;

use crate::ats::ITag;
use crate::ids::Bdf;
use crate::time::Instant;

/// An Invalidate Request that waits for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) function: Bdf,
    /// The function whose number of requests is limited.
    pub(super) throttled: Bdf,
    pub(super) itag: ITag,
    pub(super) sent: Instant,
    /// When the request times out; `None` for never.
    pub(super) expires: Option<Instant>,
    /// The number of the next wait descriptor, see [`super::queue`].
    pub(super) epoch: u64,
    /// Completions received, of those that the function has announced.
    received: u8,
}

/// All such requests, oldest first. Epochs and expiry times never fall from one to the next.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    requests: VecDeque<Request>,
}

impl Outstanding {
    /// The most requests of a unit. A function is limited by its Invalidate Queue Depth.
    pub(super) const LIMIT: usize = 256;

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// A tag that `function` does not use. `None` while `throttled` has `depth` requests, or the
    /// unit [`Self::LIMIT`].
    pub(super) fn free_itag(&self, function: Bdf, throttled: Bdf, depth: u8) -> Option<ITag> {
        let mine = self.requests.iter().filter(|request| request.function == function);
        let used = mine.fold(0_u32, |used, request| used | request.itag.bit());
        let counted = self.requests.iter().filter(|request| request.throttled == throttled).count();
        if self.requests.len() >= Self::LIMIT || counted >= usize::from(depth) {
            return None;
        }
        (used != u32::MAX).then(|| ITag::new(used.trailing_ones() as u8))
    }

    pub(super) fn add(
        &mut self,
        (function, throttled): (Bdf, Bdf),
        itag: ITag,
        sent: Instant,
        expires: Option<Instant>,
        epoch: u64,
    ) {
        self.requests.push_back(Request {
            function,
            throttled,
            itag,
            sent,
            expires,
            epoch,
            received: 0,
        });
    }

    /// Counts one of `expected` completions. Returns the request with the last of them, and `Err`
    /// if no request matches.
    pub(super) fn answer(
        &mut self,
        function: Bdf,
        itag: ITag,
        expected: u8,
    ) -> Result<Option<Request>, ()> {
        let position = self.position(function, itag).ok_or(())?;
        self.requests[position].received += 1;
        let complete = self.requests[position].received >= expected;
        Ok(if complete { self.requests.remove(position) } else { None })
    }

    /// Removes a request.
    pub(super) fn abandon(&mut self, function: Bdf, itag: ITag) -> Option<Request> {
        self.requests.remove(self.position(function, itag)?)
    }

    /// Removes the oldest request, if it has expired by `now`.
    pub(super) fn abandon_expired(&mut self, now: Instant) -> Option<Request> {
        self.next_expiry().filter(|at| *at <= now).and_then(|_| self.requests.pop_front())
    }

    /// When the oldest request expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.requests.front()?.expires
    }

    /// The epoch of the oldest request.
    pub(super) fn first_epoch(&self) -> Option<u64> {
        self.requests.front().map(|request| request.epoch)
    }

    /// Whether a request belongs to `epoch`.
    pub(super) fn has_epoch(&self, epoch: u64) -> bool {
        self.requests.binary_search_by_key(&epoch, |request| request.epoch).is_ok()
    }

    fn position(&self, function: Bdf, itag: ITag) -> Option<usize> {
        self.requests
            .iter()
            .position(|request| request.function == function && request.itag == itag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FUNCTION: Bdf = Bdf::new(1, 0, 0);

    proptest! {
        #[test]
        fn a_tag_in_use_is_not_given_out(answers in proptest::collection::vec(0_u8..64, 1..200)) {
            let mut outstanding = Outstanding::default();
            let mut used = std::collections::BTreeSet::new();
            for answer in answers {
                match outstanding.free_itag(FUNCTION, FUNCTION, 32) {
                    Some(itag) => {
                        prop_assert!(used.insert(itag));
                        outstanding.add((FUNCTION, FUNCTION), itag, Instant::START, None, 0);
                    }
                    None => prop_assert_eq!(used.len(), 32),
                }
                let itag = ITag::new(answer);
                let known = outstanding.answer(FUNCTION, itag, 1).is_ok();
                prop_assert_eq!(known, used.remove(&itag));
            }
        }
    }

    #[test]
    fn function_and_unit_limit_the_requests() {
        let mut outstanding = Outstanding::default();
        for count in 0..4 {
            let itag = outstanding.free_itag(FUNCTION, FUNCTION, 4).unwrap();
            assert_eq!(itag.get(), count);
            outstanding.add((FUNCTION, FUNCTION), itag, Instant::START, None, 0);
        }
        assert_eq!(outstanding.free_itag(FUNCTION, FUNCTION, 4), None);
        for function in 0..1024_u16 {
            let function = Bdf::from_bits(0x1000 + function);
            if let Some(itag) = outstanding.free_itag(function, function, 32) {
                outstanding.add((function, function), itag, Instant::START, None, 0);
            }
        }
        assert_eq!(outstanding.requests.len(), Outstanding::LIMIT);
    }

    #[test]
    fn a_request_with_two_completions_ends_after_both() {
        let mut outstanding = Outstanding::default();
        outstanding.add((FUNCTION, FUNCTION), ITag::new(3), Instant::START, None, 0);
        assert_eq!(outstanding.answer(FUNCTION, ITag::new(3), 2), Ok(None));
        assert!(matches!(outstanding.answer(FUNCTION, ITag::new(3), 2), Ok(Some(_))));
        assert_eq!(outstanding.answer(FUNCTION, ITag::new(3), 2), Err(()));
    }
}
