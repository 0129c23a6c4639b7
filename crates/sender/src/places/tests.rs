//! Who has a place, and who gets the next one.

use super::*;

fn owner(name: &str) -> Owner {
    Some(name.into())
}

fn begins(places: &mut Places, name: &str, owner: &Owner) -> bool {
    places.ask(name, owner, true).is_some_and(|asked| asked.begun.is_some())
}

/// Asks for other names until one does not begin. Returns how many have begun.
fn fill(places: &mut Places, of: &Owner) -> usize {
    let prefix = of.as_deref().unwrap_or("daemon");
    (0..).take_while(|at| begins(places, &format!("{at}.{prefix}.example"), of)).count()
}

fn end(places: &mut Places, name: &str, of: &Owner) -> Vec<(String, Owner)> {
    let begun = places.end(&Begun { name: name.into(), owner: of.clone() }, Err(Failure::Dns));
    begun.into_iter().map(|begun| (begun.name.to_string(), begun.owner)).collect()
}

#[test]
fn an_owner_has_at_most_as_many_places_as_are_free() {
    let mut places = Places::new(256);
    assert_eq!(fill(&mut places, &owner("a")), 128);
    assert_eq!(fill(&mut places, &owner("b")), 64);
    assert_eq!(fill(&mut places, &owner("c")), 32);
    let others = (0..).take_while(|at| begins(&mut places, "x.example", &owner(&at.to_string())));
    assert_eq!(others.count(), 1, "one name is one lookup, for all owners");
    let mut places = Places::new(256);
    let others = (0..300).filter(|at| begins(&mut places, &format!("{at}.example"), &owner(&at.to_string())));
    assert_eq!(others.count(), 255, "each owner has a place, until only the daemon's is left");
    assert!(begins(&mut places, "proxy.example", &None));
    assert!(!begins(&mut places, "other.example", &None));
}

#[test]
fn a_free_place_goes_to_the_owner_with_the_fewest() {
    let (a, b) = (owner("a"), owner("b"));
    let mut places = Places::new(16);
    assert_eq!((fill(&mut places, &a), fill(&mut places, &b)), (8, 4));
    assert!(!begins(&mut places, "second.example", &b));
    // The names that filled the shares did not begin, and are the first that wait.
    assert_eq!(end(&mut places, "0.a.example", &a), [], "both have their share still");
    assert_eq!(end(&mut places, "1.a.example", &a), [("4.b.example".to_owned(), b.clone())]);
    assert_eq!(end(&mut places, "0.b.example", &b), [("second.example".to_owned(), b.clone())]);
    assert_eq!(end(&mut places, "2.a.example", &a), []);
    assert_eq!(end(&mut places, "3.a.example", &a), [("8.a.example".to_owned(), a.clone())]);
}

#[test]
fn a_name_that_waits_begins_for_whoever_has_a_place() {
    let (a, b) = (owner("a"), owner("b"));
    let mut places = Places::new(16);
    fill(&mut places, &a);
    let mut waiting = places.ask("shared.example", &a, true).unwrap().progress;
    assert_eq!(*waiting.borrow_and_update(), Progress::Waits);
    assert!(places.ask("shared.example", &a, false).is_none(), "a caller that cannot wait");
    assert!(begins(&mut places, "shared.example", &b));
    assert_eq!(*waiting.borrow_and_update(), Progress::Runs);
    let joined = places.ask("shared.example", &a, false).unwrap();
    assert!(joined.begun.is_none(), "it runs once");
    let found: Answer = Ok([IpAddr::from([192, 0, 2, 1])].into());
    places.end(&Begun { name: "shared.example".into(), owner: b }, found.clone());
    assert_eq!(*joined.progress.borrow(), Progress::Ended(found));
}

#[test]
fn nothing_is_kept_of_callers_that_left() {
    let a = owner("a");
    let mut places = Places::new(16);
    let running = fill(&mut places, &a);
    let (first, second) =
        (places.ask("w.example", &a, true).unwrap(), places.ask("w.example", &a, true).unwrap());
    assert_eq!(first.number, second.number);
    places.leave("w.example", first.number);
    assert!(places.look_ups.contains_key("w.example"), "the other one waits");
    places.leave("w.example", second.number);
    let number = places.look_ups[&*format!("{running}.a.example")].number;
    places.leave(&format!("{running}.a.example"), number);
    assert_eq!(places.look_ups.len(), running);
    for at in 0..running {
        assert_eq!(end(&mut places, &format!("{at}.a.example"), &a), []);
    }
    assert!(places.look_ups.is_empty() && places.shares.is_empty() && places.free == 16, "{places:?}");
    let again = places.ask("w.example", &a, true).unwrap();
    places.leave("w.example", first.number);
    assert!(again.begun.is_some() && places.look_ups.contains_key("w.example"), "it is another lookup");
}
