//! Background jobs, one file each. Every one belongs to the cluster's task tracker and ends when told to stop.

mod follower;
mod repair;
mod settings;
mod task_end;

pub(crate) use follower::follow_tasks;
pub(crate) use repair::repair_replicas;
