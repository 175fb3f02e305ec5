//! What waits to be uploaded, in order per stream. Bounded: of what is too much to remember only the
//! folder is kept, for the files themselves wait on the disk.

use crest_core::segment::Fragment;
use crest_core::{MediaTime, OrganizationId, Session, StreamId, object};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// A closed segment file and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(crate) object: String,
    pub(crate) fragments: Vec<Fragment>,
    /// When it was closed; not known of what another process left.
    pub(crate) at: Option<Instant>,
}

/// Files of one session, up to a number, that are found on the disk when it is their turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) organization: OrganizationId,
    pub(crate) stream: StreamId,
    pub(crate) session: Session,
    /// The last file that is closed.
    pub(crate) up_to: u32,
    /// Where the session's media in it ends, if that is known.
    pub(crate) end: Option<MediaTime>,
}

/// The next thing to do in a lane.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Upload this file. It is no longer in the lane.
    File(Closed),
    /// Upload what is in this folder. It stays in the lane until [`Lanes::searched`].
    Folder(Folder),
}

/// The lanes: one for each stream of which something waits.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: HashMap<StreamId, VecDeque<Work>>,
    /// Files that may be remembered, and those that are.
    most: usize,
    remembered: usize,
}

impl Lanes {
    pub(crate) fn new(most: usize) -> Self {
        Self { lanes: HashMap::new(), most, remembered: 0 }
    }

    /// Adds a file to its stream's lane; `true` where the lane is new and somebody must work it off.
    pub(crate) fn add(&mut self, closed: Closed) -> bool {
        let Some(first) = closed.fragments.first() else { return false };
        let number = number(&closed.object);
        let stream = first.stream_id.clone();
        let new = !self.lanes.contains_key(&stream);
        let lane = self.lanes.entry(stream.clone()).or_default();
        match lane.back_mut() {
            // The disk remembers, and the order must stay.
            Some(Work::Folder(folder)) if folder.session == first.session => folder.up_to = folder.up_to.max(number),
            _ if self.remembered < self.most => {
                self.remembered += 1;
                lane.push_back(Work::File(closed));
            }
            _ => lane.push_back(Work::Folder(Folder {
                organization: first.organization_id.clone(),
                stream,
                session: first.session,
                up_to: number,
                end: None,
            })),
        }
        new
    }

    /// Adds what lies in a folder; `true` where the lane is new.
    pub(crate) fn add_folder(&mut self, folder: Folder) -> bool {
        let new = !self.lanes.contains_key(&folder.stream);
        self.lanes.entry(folder.stream.clone()).or_default().push_back(Work::Folder(folder));
        new
    }

    /// What is next in a lane; `None` where it is worked off, and gone.
    pub(crate) fn next(&mut self, stream: &StreamId) -> Option<Work> {
        match self.lanes.get_mut(stream).map(|lane| lane.pop_front()) {
            Some(Some(Work::File(closed))) => {
                self.remembered -= 1;
                Some(Work::File(closed))
            }
            Some(Some(Work::Folder(folder))) => {
                self.lanes.get_mut(stream)?.push_front(Work::Folder(folder.clone()));
                Some(Work::Folder(folder))
            }
            Some(None) => {
                self.lanes.remove(stream);
                None
            }
            None => None,
        }
    }

    /// Everything in `folder`, the first in its lane, is uploaded. It stays where more was closed
    /// meanwhile.
    pub(crate) fn searched(&mut self, folder: &Folder) {
        let Some(lane) = self.lanes.get_mut(&folder.stream) else { return };
        if matches!(lane.front(), Some(Work::Folder(first)) if first == folder) {
            lane.pop_front();
        }
    }

    /// Whether something of this stream waits.
    pub(crate) fn waits(&self, stream: &StreamId) -> bool {
        self.lanes.contains_key(stream)
    }

    /// Where the media ends that an earlier process left of this session.
    pub(crate) fn left_to(&self, stream: &StreamId, session: Session) -> Option<MediaTime> {
        self.lanes.get(stream)?.iter().find_map(|work| match work {
            Work::Folder(folder) if folder.session == session => folder.end,
            _ => None,
        })
    }
}

/// The number of a segment file in its session.
pub(crate) fn number(object: &str) -> u32 {
    let digits = object.rsplit_once("/segment-").and_then(|(_, rest)| rest.strip_suffix(".mp4"));
    debug_assert!(object::session_of_segment(object).is_some(), "{object}");
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn closed(stream: &str, session: u32, number: u32) -> Closed {
        let (organization_id, stream_id) = (OrganizationId::from_raw("org_a"), StreamId::from_raw(stream));
        let session = Session::new(session);
        let object = object::segment(&organization_id, &stream_id, session, number);
        let fragment = Fragment {
            organization_id,
            stream_id,
            session,
            object: object.clone(),
            header_bytes: 0,
            offset: 0,
            bytes: 1,
            start: MediaTime::ZERO,
            end: MediaTime::ZERO,
            keyframe: true,
        };
        Closed { object, fragments: vec![fragment], at: None }
    }

    /// Works a lane off: the numbers of files, and of folders how far they go, in order.
    fn order(lanes: &mut Lanes, stream: &str) -> Vec<(u32, u32)> {
        let (stream, mut seen) = (StreamId::from_raw(stream), Vec::new());
        while let Some(work) = lanes.next(&stream) {
            match work {
                Work::File(closed) => seen.push((closed.fragments[0].session.number(), number(&closed.object))),
                Work::Folder(folder) => {
                    seen.push((folder.session.number(), folder.up_to));
                    lanes.searched(&folder);
                }
            }
        }
        seen
    }

    #[test]
    fn a_lane_keeps_its_order_and_is_gone_when_it_is_worked_off() {
        let mut lanes = Lanes::new(100);
        assert!(lanes.add(closed("str_a", 1, 0)));
        assert!(!lanes.add(closed("str_a", 1, 1)), "somebody is at it");
        assert!(lanes.add(closed("str_b", 4, 9)));
        assert_eq!(order(&mut lanes, "str_a"), [(1, 0), (1, 1)]);
        assert!(!lanes.waits(&StreamId::from_raw("str_a")) && lanes.waits(&StreamId::from_raw("str_b")));
        assert!(lanes.add(closed("str_a", 1, 2)), "a new one");
    }

    #[test]
    fn what_is_too_much_is_left_to_the_disk_in_order() {
        let mut lanes = Lanes::new(2);
        for number in 0..1000 {
            lanes.add(closed("str_a", 1, number));
        }
        lanes.add(closed("str_a", 2, 0));
        assert!(lanes.lanes.values().all(|lane| lane.len() == 4), "two files and two folders");
        assert_eq!(order(&mut lanes, "str_a"), [(1, 0), (1, 1), (1, 999), (2, 0)]);
        lanes.add(closed("str_a", 2, 1));
        assert!(matches!(lanes.next(&StreamId::from_raw("str_a")), Some(Work::File(_))), "there is room again");
    }

    #[test]
    fn a_folder_stays_while_more_is_closed_in_it() {
        let mut lanes = Lanes::new(0);
        lanes.add(closed("str_a", 1, 3));
        let stream = StreamId::from_raw("str_a");
        let Some(Work::Folder(first)) = lanes.next(&stream) else { panic!("no folder") };
        lanes.add(closed("str_a", 1, 4));
        lanes.searched(&first);
        let Some(Work::Folder(again)) = lanes.next(&stream) else { panic!("forgotten") };
        assert_eq!(again.up_to, 4);
        lanes.searched(&again);
        assert!(lanes.next(&stream).is_none());
    }

    #[test]
    fn what_an_earlier_process_left_says_where_it_ends() {
        let mut lanes = Lanes::new(10);
        let (stream, end) = (StreamId::from_raw("str_a"), MediaTime::from_millis(7000));
        let organization = OrganizationId::from_raw("org_a");
        let session = Session::new(3);
        let folder = Folder { organization, stream: stream.clone(), session, up_to: u32::MAX, end: Some(end) };
        assert!(lanes.add_folder(folder));
        assert_eq!(lanes.left_to(&stream, session), Some(end));
        assert_eq!(lanes.left_to(&stream, Session::new(4)), None);
    }
}
