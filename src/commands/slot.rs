//! A bound for the clusters of a fleet that work at the same time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The place of a session among those that work at the same time. A session on its own needs none.
#[derive(Debug, Default)]
pub(super) struct Slot {
    slots: Option<Arc<Semaphore>>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Slot {
    /// Creates a place, which is not occupied yet.
    pub fn of(slots: &Arc<Semaphore>) -> Self {
        Self {
            slots: Some(slots.clone()),
            held: Mutex::default(),
        }
    }

    /// Waits until a place is free and occupies it.
    pub async fn acquire(&self) {
        if let Some(slots) = &self.slots {
            // Nothing closes the semaphore.
            let permit = slots.clone().acquire_owned().await.ok();
            self.hold(permit);
        }
    }

    /// Frees the place for another session.
    pub fn release(&self) {
        self.hold(None);
    }

    fn hold(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn released_place_is_free_for_another_session() {
        let slots = Arc::new(Semaphore::new(1));
        let (one, other) = (Slot::of(&slots), Slot::of(&slots));
        one.acquire().await;
        let waiting = other.acquire();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        one.release();
        waiting.await;
        assert_eq!(slots.available_permits(), 0);
        other.release();
        assert_eq!(slots.available_permits(), 1);
        Slot::default().acquire().await;
    }
}
