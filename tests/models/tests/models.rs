//! Runs the models, a test each.

use gpu_numa_models::models;

macro_rules! models {
    ($($name:ident)*) => { $( #[test] fn $name() { models::$name(); } )* };
}

models! {
    tasks_that_wait_all_do_what_one_decided_for_them
    when_one_gives_up_all_plan_alone_or_none
    where_the_one_that_decides_dies_the_others_decide_for_themselves
    a_fault_of_the_one_that_decides_keeps_nobody_waiting
    a_task_that_is_killed_at_any_write_leaves_the_others_what_all_do
    a_task_that_never_comes_does_not_keep_others_waiting
    a_task_that_comes_twice_counts_once_and_one_with_anothers_number_plans_alone
    a_task_that_does_not_fit_keeps_nobody_waiting
    a_refusal_reaches_whoever_does_not_know_all
    one_speaks_for_all_that_plan_alone
    a_rank_is_seen_whole_or_not_at_all_and_all_once_they_are_counted
    a_rank_that_is_killed_at_any_write_is_seen_whole_or_not_at_all
    one_rank_speaks_for_a_host_whoever_came_first
    whoever_leaves_last_takes_the_name_away
    a_set_of_one_kind_is_told_once_with_what_its_own_members_moved
    a_sum_that_is_seen_has_the_bytes_of_its_calls
    threads_that_count_at_once_lose_nothing
    one_thread_settles_the_role_and_it_leaves_the_count_once
    a_communicator_that_begins_is_in_the_mask_whatever_others_write
}
