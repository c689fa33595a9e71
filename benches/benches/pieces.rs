//! All pieces, timed by criterion: `cargo bench -p vivarium-benches [-- NAME]`.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};

fn pieces(c: &mut Criterion) {
    for mut piece in vivarium_benches::all() {
        c.bench_function(piece.name, |b| b.iter(|| piece.run()));
    }
}

criterion_group!(benches, pieces);
criterion_main!(benches);
