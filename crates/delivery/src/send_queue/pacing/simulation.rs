//! Simulates [`Pacing`] with receivers of many kinds and a send queue that always has more events.
//! The clock is virtual, and random numbers have a seed.

use crate::send_queue::pacing::Pacing;
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

const MAX: usize = 512;

/// Time that a request takes if the receiver has no other request, in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Service {
    Constant(f64),
    Uniform(f64, f64),
    /// One in ten requests takes the first time, the others take the second.
    Two(f64, f64),
    /// The median is 100 ms; the value is sigma.
    LogNormal(f64),
    Exponential(f64),
}

impl Service {
    fn draw(self, rng: &mut fastrand::Rng) -> f64 {
        let share = 1.0 - rng.f64();
        match self {
            Self::Constant(ms) => ms,
            Self::Uniform(from, to) => from + share * (to - from),
            Self::Two(rare, _) if share < 0.1 => rare,
            Self::Two(_, common) => common,
            Self::LogNormal(sigma) => {
                let normal = (-2.0 * share.ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
                100.0 * (sigma * normal).exp()
            }
            Self::Exponential(mean) => -mean * share.ln(),
        }
    }

    fn mean(self) -> f64 {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) => mean,
            Self::Uniform(from, to) => f64::midpoint(from, to),
            Self::Two(rare, common) => rare * 0.1 + common * 0.9,
            Self::LogNormal(sigma) => 100.0 * (sigma * sigma / 2.0).exp(),
        }
    }
}

const SERVICES: [Service; 6] = [
    Service::Constant(500.0),
    Service::Uniform(500.0, 2000.0),
    Service::Two(20.0, 500.0),
    Service::LogNormal(0.6),
    Service::Two(3000.0, 100.0),
    Service::Exponential(200.0),
];

#[derive(Debug, Clone, Copy)]
enum Receiver {
    Unlimited,
    /// This many workers, shared by all requests in flight.
    Shared(usize),
    /// This many workers, each with one request. The other requests wait in a line.
    OrderGroup(usize),
    /// Unlimited, and ten times slower after 30 s for reasons of its own.
    Slower,
    /// Answers 503 to requests beyond this many.
    Refusing(usize),
}

/// A pending answer: its time in microseconds, the attempt's number, the start of the attempt in
/// microseconds, and whether it is a 503.
type Answer = Reverse<(u64, u64, u64, bool)>;

struct World {
    pacing: Pacing,
    receiver: Receiver,
    service: Service,
    rng: fastrand::Rng,
    now_us: u64,
    under_way: BinaryHeap<Answer>,
    /// When each worker of a line is free, in microseconds.
    workers: BinaryHeap<Reverse<u64>>,
    succeeded: usize,
    refused: usize,
}

impl World {
    fn new(receiver: Receiver, service: Service, seed: u64) -> Self {
        let workers = if let Receiver::OrderGroup(workers) = receiver { workers } else { 0 };
        Self {
            pacing: Pacing::default(),
            receiver,
            service,
            rng: fastrand::Rng::with_seed(seed),
            now_us: 0,
            under_way: BinaryHeap::new(),
            workers: (0..workers).map(|_| Reverse(0)).collect(),
            succeeded: 0,
            refused: 0,
        }
    }

    /// Simulates an outage, after which the circuit closes.
    fn after_an_outage(mut self) -> Self {
        for _ in 0..10 {
            let number = self.pacing.begin();
            self.pacing.pushed_back(number);
        }
        assert_eq!(self.pacing.limit(), 1);
        self.pacing.restart();
        self
    }

    fn start(&mut self) {
        let number = self.pacing.begin();
        let others = self.under_way.len();
        let ms = self.service.draw(&mut self.rng);
        let (mut from_us, mut is_refused) = (self.now_us, false);
        let ms = match self.receiver {
            Receiver::Shared(workers) => ms * ((others + 1) as f64 / workers as f64).max(1.0),
            Receiver::Slower if self.now_us > 30_000_000 => ms * 10.0,
            Receiver::Refusing(most) if others >= most => {
                is_refused = true;
                5.0
            }
            Receiver::OrderGroup(_) => {
                let Reverse(free_us) = self.workers.pop().expect("a worker");
                from_us = free_us.max(self.now_us);
                self.workers.push(Reverse(from_us + (ms * 1000.0) as u64));
                ms
            }
            _ => ms,
        };
        let done_us = from_us + (ms * 1000.0) as u64;
        self.under_way.push(Reverse((done_us, number, self.now_us, is_refused)));
    }

    /// Runs until this time or until the limit reaches `enough`. Returns the mean and the maximum
    /// of the limit.
    fn run(&mut self, until: Duration, enough: usize) -> (f64, usize) {
        let (mut sum, mut answers, mut most) = (0, 0, 0);
        while self.now_us < until.as_micros() as u64 && self.pacing.limit() < enough {
            while self.under_way.len() < self.pacing.limit() {
                self.start();
            }
            let is_full = self.under_way.len() >= self.pacing.limit();
            let Reverse((done_us, number, began_us, is_refused)) = self.under_way.pop().expect("a request");
            self.now_us = done_us;
            if is_refused {
                self.refused += 1;
                self.pacing.pushed_back(number);
            } else {
                self.succeeded += 1;
                let duration = Duration::from_micros(done_us - began_us);
                self.pacing.succeeded(number, duration, is_full, MAX);
            }
            sum += self.pacing.limit();
            answers += 1;
            most = most.max(self.pacing.limit());
        }
        (sum as f64 / f64::from(answers.max(1)), most)
    }

    fn round_trips(&self) -> f64 {
        self.now_us as f64 / 1000.0 / self.service.mean()
    }
}

#[test]
fn one_that_takes_any_number_gets_the_most_within_twenty_round_trips() {
    for service in SERVICES {
        for seed in 0..20 {
            let new = World::new(Receiver::Unlimited, service, seed);
            let back = World::new(Receiver::Unlimited, service, seed).after_an_outage();
            let trips = [new, back].map(|mut world| {
                world.run(Duration::from_mins(10), MAX);
                world.round_trips()
            });
            if seed == 0 {
                println!(
                    "{service:?}: {MAX} after {:.1} round trips, from 1 after {:.1}",
                    trips[0], trips[1]
                );
            }
            assert!(
                trips.iter().all(|trips| *trips < 20.0),
                "{service:?}, seed {seed}: {trips:?} round trips"
            );
        }
    }
}

#[test]
fn one_of_fixed_capacity_is_used_and_not_flooded() {
    for workers in [10, 40, 150] {
        // Without the exponential service: with few workers, it sometimes gets ten times the
        // requests that it can handle at once.
        for service in &SERVICES[..5] {
            for receiver in [Receiver::Shared(workers), Receiver::OrderGroup(workers)] {
                for seed in 0..2 {
                    let mut world = World::new(receiver, *service, seed);
                    let (_, start) = world.run(Duration::from_mins(1), usize::MAX);
                    let before = world.succeeded;
                    let (mean, most) = world.run(Duration::from_mins(3), usize::MAX);
                    let rate = (world.succeeded - before) as f64 / 120.0;
                    let used = rate * service.mean() / 1000.0 / workers as f64;
                    if seed == 0 {
                        println!(
                            "{receiver:?} {service:?}: at most {start}, then {mean:.0}, at most {most}; {:.0} %",
                            used * 100.0
                        );
                    }
                    // Twice the capacity, plus the most by which the first growth may exceed it.
                    let bound = workers * 2 + 128;
                    assert!(most <= bound, "{receiver:?} {service:?}, seed {seed}: {most} at once");
                    assert!(used > 0.8, "{receiver:?} {service:?}, seed {seed}: {used:.2} of its capacity");
                }
            }
        }
    }
}

#[test]
fn one_that_became_slower_is_learnt_anew() {
    for service in SERVICES {
        let mut world = World::new(Receiver::Slower, service, 1);
        world.run(Duration::from_secs(30), usize::MAX);
        assert_eq!(world.pacing.limit(), MAX, "{service:?}");
        let until = Duration::from_secs_f64(30.0 + service.mean() / 1000.0 * 10.0 * 10.0);
        world.run(until, usize::MAX);
        assert_eq!(world.pacing.limit(), MAX, "{service:?}");
    }
}

#[test]
fn one_that_refuses_is_taken_at_its_word() {
    for service in SERVICES {
        let mut world = World::new(Receiver::Refusing(100), service, 1);
        world.run(Duration::from_mins(1), usize::MAX);
        let (succeeded, refused) = (world.succeeded, world.refused);
        let (mean, most) = world.run(Duration::from_mins(5), usize::MAX);
        let (succeeded, refused) = (world.succeeded - succeeded, world.refused - refused);
        println!("{service:?}: {mean:.0}, at most {most}; {refused} of {} refused", succeeded + refused);
        assert!(most <= 101, "{service:?}: {most}");
        assert!(refused * 20 < succeeded, "{service:?}: {refused} refused, {succeeded} not");
    }
}
