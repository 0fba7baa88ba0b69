"""Cameras, rotations and arms against other ways to compute them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from microg_da.synthetic import figure, geometry


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_agrees_with_scipy(axis):
    angles = np.linspace(-4.0, 4.0, 9)
    assert np.allclose(geometry.rotation(axis, angles), Rotation.from_euler(axis, angles[:, None]).as_matrix())


def test_rotation_about_a_vector_agrees_with_scipy(rng):
    vector, times = rng.normal(size=3), rng.normal(size=7)
    expected = Rotation.from_rotvec(times[:, None] * vector).as_matrix()
    assert np.allclose(geometry.rotation_about(vector, times), expected)


def test_no_rotation_about_the_zero_vector():
    assert np.array_equal(geometry.rotation_about(np.zeros(3), np.ones(2)), np.broadcast_to(np.eye(3), (2, 3, 3)))


def test_cross_products_are_those_of_numpy(rng):
    one, two = rng.normal(size=(2, 4, 7, 3))
    assert np.array_equal(geometry.cross(one, two), np.cross(one, two))


def test_projection_agrees_with_opencv(rng):
    position, aim = np.array([[1.0, -3.0, 1.5]]), np.array([[0.0, 0.0, 1.0]])
    axes = geometry.look_at(position, aim, 0.3)
    camera = geometry.Camera(position, axes, focal=1.1)
    points = rng.uniform(-0.5, 0.5, (1, 20, 3)) + np.array([0.0, 0.0, 1.0])
    matrix = np.array([[1.1, 0.0, 0.5], [0.0, 1.1, 0.5], [0.0, 0.0, 1.0]])
    turn, _ = cv2.Rodrigues(axes[0])
    expected, _ = cv2.projectPoints(points[0], turn, -axes[0] @ position[0], matrix, None)
    assert np.allclose(camera.project(points)[0][0], expected[:, 0], atol=1e-6)


@pytest.mark.parametrize("roll", [0.0, 0.5, -2.0, np.pi])
def test_roll_turns_the_image(roll):
    camera = geometry.Camera(
        np.array([[0.0, -4.0, 0.0]]), geometry.look_at(np.array([[0.0, -4.0, 0.0]]), np.zeros((1, 3)), roll), 1.0
    )
    image, _ = camera.project(np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]]))
    up = image[0, 1] - image[0, 0]
    assert np.allclose(up / np.linalg.norm(up), [np.sin(roll), -np.cos(roll)])


def test_arms_keep_their_length_and_reach_what_they_can(rng):
    count = 200
    posture = figure.Posture(*(np.zeros(count), np.zeros((count, 2)), np.zeros((count, 2)), *[np.zeros(count)] * 3))
    joints = figure.torso_and_legs(posture)
    goals = joints[:, figure.SHOULDERS] + rng.normal(0.0, 0.35, (count, 2, 3))
    figure.place_arms(joints, goals, np.array([[0.0, 1.0, -1.0], [0.0, -1.0, -1.0]]))
    shoulder, elbow, wrist = (joints[:, names] for names in (figure.SHOULDERS, figure.ELBOWS, figure.WRISTS))
    assert np.allclose(np.linalg.norm(elbow - shoulder, axis=-1), figure.UPPER_ARM)
    assert np.allclose(np.linalg.norm(wrist - elbow, axis=-1), figure.FOREARM)
    distance = np.linalg.norm(goals - shoulder, axis=-1)
    reachable = (distance < figure.UPPER_ARM + figure.FOREARM - 1e-3) & (distance > 0.08)
    assert 0.2 < reachable.mean() < 0.95
    assert np.allclose(wrist[reachable], goals[reachable], atol=1e-6)


def test_legs_keep_their_length(rng):
    count = 50
    posture = figure.Posture(
        rng.normal(size=count), rng.normal(size=(count, 2)), rng.normal(size=(count, 2)), *rng.normal(size=(3, count))
    )
    joints = figure.torso_and_legs(posture)
    for start, end, length in (
        (figure.HIPS, figure.KNEES, figure.THIGH),
        (figure.KNEES, figure.ANKLES, figure.SHIN),
        (figure.ANKLES, figure.TOES, figure.FOOT),
    ):
        assert np.allclose(np.linalg.norm(joints[:, end] - joints[:, start], axis=-1), length)
