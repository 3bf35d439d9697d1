//! Runs the models, a test each.

use gpu_numa_models::models;

macro_rules! models {
    ($($name:ident)*) => { $( #[test] fn $name() { models::$name(); } )* };
}

models! {
    tasks_that_wait_all_see_what_each_of_them_told
    when_one_gives_up_all_plan_alone_or_none
    a_task_that_never_comes_does_not_keep_others_waiting
    a_refusal_reaches_whoever_does_not_know_all
    a_rank_is_seen_whole_or_not_at_all_and_all_once_they_are_counted
    one_rank_speaks_for_a_host_whoever_came_first
    whoever_leaves_last_takes_the_name_away
    a_sum_that_is_seen_has_the_bytes_of_its_calls
    one_thread_settles_the_role_and_it_leaves_the_count_once
    a_communicator_that_begins_is_in_the_mask_whatever_others_write
}
