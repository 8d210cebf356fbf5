//! Rounds over all objects until nothing is left to do.

use super::*;

impl Lab {
    /// One pass over every object, and a tick. What was done.
    pub fn round(&mut self) -> Vec<Step> {
        let mut done = Vec::new();
        for i in 0..self.registries.len() {
            done.extend(self.pass_registry(i, usize::MAX));
        }
        for i in 0..self.clusters.len() {
            done.extend(self.pass(i, usize::MAX));
        }
        self.world.tick();
        done
    }

    /// Whether nothing is left to do and nothing to wait for.
    pub fn settled(&mut self) -> bool {
        (0..self.clusters.len()).all(|i| self.look(i).plan.is_settled())
            && (0..self.registries.len())
                .all(|i| self.look_registry(i).is_none_or(|(plan, ..)| plan.is_settled()))
    }

    /// Rounds until everything is settled; how many.
    pub fn settle(&mut self, most: usize) -> usize {
        for n in 0..most {
            if self.settled() {
                let running = |c: &ClusterObject| !c.deleted && c.spec.state == ClusterState::Running;
                if self.clusters.iter().all(running) {
                    super::super::check::members(&self.world);
                }
                return n;
            }
            self.round();
        }
        let plans: Vec<_> = (0..self.clusters.len()).map(|i| self.look(i).plan).collect();
        let told: Vec<_> = plans.iter().flat_map(|p| &p.problems).collect();
        let steps: Vec<_> = plans.iter().flat_map(|p| &p.steps).map(|s| s.action.to_string()).collect();
        panic!("not settled after {most} rounds: {told:#?} {steps:#?} {}", self.world.brief())
    }
}
