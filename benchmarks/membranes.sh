#!/bin/sh
# A head of affinities on a contrast run, fine-tuned on real membranes, scored through waterz and the mutex watershed.
#   sh benchmarks/membranes.sh DATA OUT
# DATA holds image/ and label/ with sections 00.png to 29.png, labels 0 on membranes, as ISBI 2012 has them. Sections 0 to 17 train, 24 to
# 29 are scored. About seven CPU minutes.
set -e
data=$(cd "$1" && pwd)
mkdir -p "$2/test/image" "$2/test/label"
cd "$2"
names='["00","01","02","03","04","05","06","07","08","09","10","11","12","13","14","15","16","17"]'
for section in 24 25 26 27 28 29; do
    for kind in image label; do ln -sf "$data/$kind/$section.png" "test/$kind/"; done
done
common="trainer.batch_size=4 trainer.learning_rate=2e-3 trainer.panels_every=0 trainer.device=cpu trainer.threads=1 trainer.steps=900"
lamella train contrast "data.sources=[{path: $data/image, names: $names}]" data.crop=144 $common \
    'task.net={kind: unet, features: [24, 48, 96], down: [2, 2], fold: 2, residual: true, skip: add, edges: replicate}' \
    task.loss=vicreg task.point_density=0.02 'task.imaging=[{kind: noise, p: 0.5, std: [0.0, 0.06]}]' --name base
lamella train head --from base:last "data.sources=[{path: $data/image, labels: $data/label, components: true, names: $names}]" \
    data.crop=192 $common task.freeze_base=false 'task.target={kind: affinities}' \
    'task.imaging=[{kind: brightness, factor: [1.0, 1.2], offset: [0.0, 0.1]}, {kind: noise, p: 0.5, std: [0.0, 0.06]}]' \
    'task.specimen=[{kind: rotate, p: 1.0}, {kind: elastic, p: 0.5, std: [3, 3], spacing: [32, 32]}, {kind: mirror}, {kind: transpose}]' \
    --name tuned
score="tuned test/image --labels test/label --components --background ignored"
lamella evaluate heads $score --out waterz
lamella evaluate heads $score --out mutex --kind mutex --thresholds 0.3,0.5,0.7
